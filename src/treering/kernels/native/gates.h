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

// In double: terms of both signs, as many as tokens, cancel to a small rest.
inline void add_up(double* sums, const float* terms, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += terms[i];
}

inline void add_up(double* sums, V terms) {
  typedef float Half __attribute__((vector_size(2 * TR_WIDTH)));
  typedef double Wide __attribute__((vector_size(4 * TR_WIDTH)));
  typedef double Loose __attribute__((vector_size(4 * TR_WIDTH), aligned(8)));
  Half halves[2];
  std::memcpy(halves, &terms, sizeof(terms));
  for (int k = 0; k < 2; k++)
    *reinterpret_cast<Loose*>(sums + k * W / 2) += __builtin_convertvector(halves[k], Wide);
}

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

}  // namespace TR_TARGET
