// Products of rows of a matrix, as the layer has it, with one vector: for a single token, whose
// arithmetic takes less time than packing the matrix would.
//
// Legend: K the summed axis.
#pragma once
#include "gates.h"

namespace TR_TARGET {

// The accumulators of W units, one after the other in `count` rows of a matrix.
class RowSums {
 public:
  // += the products of the rows from `first` on, `stride` numbers apart, with v.
  void add(const float* first, size_t stride, size_t count, const float* v, size_t K) {
    const float* rows[W];
    for (size_t j = 0; j < W; j++) rows[j] = first + std::min(j, count - 1) * stride;
    size_t k = 0;
    for (; k + W <= K; k += W) {
      const V part = load(v + k);
      for (size_t j = 0; j < W; j++) sums[j] += part * load(rows[j] + k);
    }
    if (k < K) {
      const V part = load_part(v + k, K - k);
      for (size_t j = 0; j < W; j++) sums[j] += part * load_part(rows[j] + k, K - k);
    }
  }

  // The sum of row j in lane j, 0 beyond `count`: halves of two vectors are added until one is left.
  V across(size_t count) {
#if defined(__clang__)  // which knows shuffles of constants alone
    for (size_t j = 0; j < W; j++)
      for (size_t lane = 1; lane < W; lane++) sums[j][0] += sums[j][lane];
    for (size_t j = 1; j < W; j++) sums[0][j] = sums[j][0];
#else
    for (size_t step = W / 2; step > 0; step /= 2) {
      VI here, there;
      for (size_t lane = 0; lane < W; lane++) {
        here[lane] = lane & step ? lane + W : lane;
        there[lane] = lane & step ? lane - step + W : lane + step;
      }
      for (size_t i = 0; i < step; i++)
        sums[i] = __builtin_shuffle(sums[i], sums[i + step], here) +
                  __builtin_shuffle(sums[i], sums[i + step], there);
    }
#endif
    if (count == W) return sums[0];
    float part[W];
    store(part, sums[0]);
    return load_part(part, count);
  }

 private:
  V sums[W] = {};
};

}  // namespace TR_TARGET
