#include "tree.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_tree_forward(const TreeCall* call) {
  return done([&] { TreeForward(*call).run(); });
}

TR_EXPORT int tr_tree_backward(const TreeCall* call, const TreeBack* back) {
  return done([&] { TreeBackward(*call, *back).run(); });
}
