#include "tree.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_tree_forward(const TreeCall<float>* call) {
  return done([&] { tree_forward(*call); });
}

TR_EXPORT int tr_tree_backward(const TreeCall<float>* call, const TreeBack<float>* back) {
  return done([&] { tree_backward(*call, *back); });
}
