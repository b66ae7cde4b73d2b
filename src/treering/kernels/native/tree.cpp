#include "tree_once.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_tree_forward(const TreeCall<float>* call) {
  return done([&] { tree_forward(*call); });
}

TR_EXPORT int tr_tree_backward(const TreeCall<float>* call, const TreeBack<float>* back) {
  return done([&] { tree_backward(*call, *back); });
}

// One token. Single arguments, for a structure takes Python longer to fill than C++ to compute.
TR_EXPORT int tr_tree_once(int kind, int refinements, size_t B, size_t I, size_t H, size_t K,
                           size_t new_K, const float* x, const int64_t* length,
                           const float* blocks_h, const float* blocks_c, const float* folds_h,
                           const float* folds_c, float* new_blocks_h, float* new_blocks_c,
                           float* new_folds_h, float* new_folds_c, float* y, const float* w_leaf,
                           const float* b_leaf, const float* w_merge, const float* b_merge,
                           const float* const* w_refine, const float* const* b_refine) {
  return done([&] {
    tree_once({kind, refinements, B, I, H, x, length, {K, blocks_h, blocks_c},
               {K, folds_h, folds_c}, {new_K, new_blocks_h, new_blocks_c},
               {new_K, new_folds_h, new_folds_c}, y, w_leaf, b_leaf, w_merge, b_merge, w_refine,
               b_refine});
  });
}
