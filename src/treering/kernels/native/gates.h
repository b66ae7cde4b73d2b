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

// Blocks of `outer_rows`: a block of a and one of b share the second cache with the sums.
constexpr size_t OUTER_K = 256, OUTER_TILES = 40;

// Numbers that `outer_rows` needs for itself.
inline size_t outer_scratch(size_t N) {
  return OUTER_TILES * tile_rows(WIDE) * OUTER_K + packed_columns(OUTER_K, N);
}

// Columns [begin, begin + rows) of a(0) .. a(K - 1), tile by tile.
template <class A>
inline void pack_tiles(size_t begin, size_t rows, size_t K, A&& a, float* out) {
  constexpr size_t MR = tile_rows(WIDE), NEIGHBOURS = 8;
  const size_t tiles = (rows + MR - 1) / MR;
  // A few tiles at once use up what a row brings into the cache.
  for (size_t first = 0; first < tiles; first += NEIGHBOURS)
    for (size_t k = 0; k < K; k++) {
      const float* from = a(k) + begin;
      for (size_t t = first; t < std::min(tiles, first + NEIGHBOURS); t++) {
        float* to = out + (t * OUTER_K + k) * MR;
        if ((t + 1) * MR <= rows)
          std::memcpy(to, from + t * MR, MR * sizeof(float));
        else
          for (size_t i = 0; i < MR; i++) to[i] = t * MR + i < rows ? from[t * MR + i] : 0.0f;
      }
    }
}

template <class B>
inline void pack_rows(size_t N, size_t K, B&& b, float* out) {
  for (size_t k = 0; k < K; k++) {
    const float* from = b(k);
    for (size_t n = 0; n < N; n += WIDE * W) {
      float* to = out + n * OUTER_K + k * WIDE * W;
      const size_t count = std::min(N - n, WIDE * W);
      if (count == WIDE * W) {
        std::memcpy(to, from + n, WIDE * W * sizeof(float));
      } else {
        std::memcpy(to, from + n, count * sizeof(float));
        std::fill(to + count, to + WIDE * W, 0.0f);
      }
    }
  }
}

// out(m)[n] += sum_k a(k)[m] * b(k)[n] for columns m of [begin, end) of a; out(m) may be nullptr
// where nobody wants the row. Blocks of k follow each other in order.
template <class A, class B, class O>
inline void outer_rows(size_t begin, size_t end, size_t N, size_t K, A&& a, B&& b, O&& out,
                       float* scratch) {
  constexpr int MR = tile_rows(WIDE);
  float *pa = scratch, *pb = pa + OUTER_TILES * MR * OUTER_K;
  for (size_t k0 = 0; k0 < K; k0 += OUTER_K) {
    const size_t kc = std::min(OUTER_K, K - k0);
    pack_rows(N, kc, [&](size_t k) { return b(k0 + k); }, pb);
    for (size_t m0 = begin; m0 < end; m0 += OUTER_TILES * MR) {
      const size_t rows = std::min(OUTER_TILES * MR, end - m0);
      pack_tiles(m0, rows, kc, [&](size_t k) { return a(k0 + k); }, pa);
      for (size_t n = 0; n < N; n += WIDE * W)
        for (size_t m = 0; m < rows; m += MR) {
          V acc[MR][WIDE] = {};
          const float *ta = pa + m * OUTER_K, *tb = pb + n * OUTER_K;
          for (size_t k = 0; k < kc; k++, ta += MR, tb += WIDE * W) {
            V panel[WIDE];
            for (int j = 0; j < WIDE; j++) panel[j] = load(tb + j * W);
            for (int i = 0; i < MR; i++) {
              V s = all(ta[i]);
              for (int j = 0; j < WIDE; j++) acc[i][j] += s * panel[j];
            }
          }
          for (int i = 0; i < MR && m + i < rows; i++) {
            float* row = out(m0 + m + i);
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
}

}  // namespace TR_TARGET
