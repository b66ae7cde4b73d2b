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
  V get(const float* row) const {
    return count == W ? load(row + at) : load_part(row + at, count);
  }
  void put(float* row, V v) const {
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

constexpr size_t OUTER_BLOCK = 128;  // two packed blocks of this many k fit the first cache

// Numbers that `outer_rows` needs for itself.
inline size_t outer_scratch(size_t rows, size_t N) {
  constexpr size_t MR = tile_rows(WIDE);
  return (rows + MR - 1) / MR * MR * OUTER_BLOCK + packed_columns(OUTER_BLOCK, N);
}

// out(m)[n] += sum_k a(k)[m] * b(k)[n] for columns m of [begin, end) of a; out(m) may be nullptr
// where nobody wants the row. Blocks of k follow each other in order.
template <class A, class B, class O>
inline void outer_rows(size_t begin, size_t end, size_t N, size_t K, A&& a, B&& b, O&& out,
                       float* scratch) {
  constexpr size_t KC = OUTER_BLOCK;
  constexpr int MR = tile_rows(WIDE);
  const size_t rows = end - begin, tiles = (rows + MR - 1) / MR;
  float *pa = scratch, *pb = pa + tiles * MR * KC;
  for (size_t k0 = 0; k0 < K; k0 += KC) {
    const size_t kc = std::min(KC, K - k0);
    for (size_t k = 0; k < kc; k++) {
      const float* from = a(k0 + k) + begin;
      float* to = pa + k * MR;
      size_t t = 0;
      for (; (t + 1) * MR <= rows; t++, to += KC * MR, from += MR)
        std::memcpy(to, from, MR * sizeof(float));
      if (t < tiles) {
        const size_t left = rows - t * MR;
        for (size_t i = 0; i < MR; i++) to[i] = i < left ? from[i] : 0.0f;
      }
    }
    for (size_t k = 0; k < kc; k++) {
      const float* from = b(k0 + k);
      for (size_t n = 0; n < N; n += WIDE * W) {
        float* to = pb + n * KC + k * WIDE * W;
        const size_t count = std::min(N - n, WIDE * W);
        if (count == WIDE * W) {
          std::memcpy(to, from + n, WIDE * W * sizeof(float));
        } else {
          std::memcpy(to, from + n, count * sizeof(float));
          std::fill(to + count, to + WIDE * W, 0.0f);
        }
      }
    }
    for (size_t n = 0; n < N; n += WIDE * W)
      for (size_t t = 0; t < tiles; t++) {
        V acc[MR][WIDE] = {};
        const float *ta = pa + t * KC * MR, *tb = pb + n * KC;
        for (size_t k = 0; k < kc; k++, ta += MR, tb += WIDE * W) {
          V panel[WIDE];
          for (int j = 0; j < WIDE; j++) panel[j] = load(tb + j * W);
          for (int i = 0; i < MR; i++) {
            V s = all(ta[i]);
            for (int j = 0; j < WIDE; j++) acc[i][j] += s * panel[j];
          }
        }
        for (int i = 0; i < MR && t * MR + i < rows; i++) {
          float* row = out(begin + t * MR + i);
          if (!row) continue;
          for (int j = 0; j < WIDE; j++) {
            const size_t at = n + j * W;
            if (at + W <= N)
              store(row + at, load(row + at) + acc[i][j]);
            else if (at < N)
              store_part(row + at, load_part(row + at, N - at) + acc[i][j], N - at);
          }
        }
      }
  }
}

}  // namespace TR_TARGET
