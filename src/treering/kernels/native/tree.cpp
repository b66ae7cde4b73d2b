#include "tree.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_tree_forward(const TreeCall* call) {
  return done([&] { tree_forward(*call); });
}

TR_EXPORT int tr_tree_backward(const TreeCall* call, const TreeBack* back) {
  return done([&] { tree_backward(*call, *back); });
}
