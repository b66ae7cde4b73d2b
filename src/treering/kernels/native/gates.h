// What every cell made of gates needs: units of a row, slopes, and products on gate-major rows.
//
// A row of gates is S blocks of HP floats, H units of one gate and zeros up to a whole vector.
//
// Legend: S blocks, H hidden, HP hidden rounded up to vectors, K summed axis, N columns.
#pragma once
#include "gemm.h"

namespace TR_TARGET {

// Vectors of W units of a row of H: whole ones, and the part that is left.
struct Units {
  size_t at, count;
  Units(size_t u, size_t H) : at(u * W), count(std::min<size_t>(W, H - u * W)) {}
  template <class E>
  V get(const E* row) const {
    return count == W ? load(row + at) : load_part(row + at, count);
  }
  template <class E>
  void put(E* row, V v) const {
    count == W ? store(row + at, v) : store_part(row + at, v, count);
  }
};

inline V slope(V s) { return s * (all(1.0f) - s); }
inline V slope_of_tanh(V g) { return all(1.0f) - g * g; }

inline size_t padded(size_t H) { return panels(H) * W; }

// Rows of gate blocks in the order of `blocks`, (S * H, N) row-major, as a packed matrix with
// S * HP rows; the rows that pad a block are 0.
inline void pack_padded(const float* matrix, size_t H, size_t N, const int* blocks, size_t S,
                        float* out) {
  const size_t HP = padded(H);
  for (size_t n = 0; n < N; n += WIDE * W)
    for (size_t s = 0; s < S; s++)
      for (size_t unit = 0; unit < HP; unit++, out += WIDE * W) {
        const size_t count = unit < H ? std::min(N - n, WIDE * W) : 0;
        if (count) std::memcpy(out, matrix + (blocks[s] * H + unit) * N + n, count * sizeof(float));
        std::fill(out + count, out + WIDE * W, 0.0f);
      }
}

// acc[i][O + j] += sum_k a[i][k] * b[k][j] for the L vectors j that a row of the panel has.
template <int MR, int NV, int L, int O>
__attribute__((always_inline)) inline void accumulate_some(V (&acc)[MR][NV],
                                                            const float* const* a, const float* b,
                                                            size_t K) {
  const float* row[MR];
  for (int i = 0; i < MR; i++) row[i] = a[i];
  for (size_t k = 0; k < K; k++, b += L * W) {
    V panel[L];
    for (int j = 0; j < L; j++) panel[j] = load(b + j * W);
    for (int i = 0; i < MR; i++) {
      V s = all(row[i][k]);
      for (int j = 0; j < L; j++) acc[i][O + j] += s * panel[j];
    }
  }
}

}  // namespace TR_TARGET
