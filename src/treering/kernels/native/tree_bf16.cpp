// Merging cells on bfloat16 numbers: a source of its own, because it is what a target with instructions
// for them compiles anew.
#include "export.h"
#include "gemm_bf16.h"
#include "tree.h"

using namespace TR_TARGET;

TR_EXPORT int tr_tree_forward_bf16(const TreeCall<bf16>* call) {
  return done([&] { tree_forward(*call); });
}

TR_EXPORT int tr_tree_backward_bf16(const TreeCall<bf16>* call, const TreeBack<bf16>* back) {
  return done([&] { tree_backward(*call, *back); });
}
