// Products of row blocks with packed matrices, and the products that weight gradients are.
//
// A packed matrix has panels of NV vectors of W columns; in a panel the rows k follow each other.
// A tile of MR rows and one panel is summed in registers over all k in order, so that a result
// does not depend on how rows and panels are shared out among threads.
//
// Legend: M rows, N columns, K the summed axis.
#pragma once
#include <algorithm>
#include <type_traits>

#include "vector.h"

namespace TR_TARGET {

// Rows of a tile: as many as leave registers for the panel and one factor.
constexpr int tile_rows(int vectors) {
  return std::max(1, ((W == 16 ? 32 : 16) - vectors - 1) / vectors);
}

// acc[i][O + j] += sum_k a[i][k] * b[k][j], with b one packed panel of L vectors.
template <int MR, int NV, int L = NV, int O = 0>
__attribute__((always_inline)) inline void accumulate(V (&acc)[MR][NV], const float* const* a,
                                                       const float* b, size_t K) {
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

// f(rows, first) over [begin, end), `rows` an integral constant of at most MR, blocks as equal as
// possible.
template <int MR, class F>
inline void by_tiles(size_t begin, size_t end, F&& f) {
  size_t left = end - begin;
  for (size_t blocks = (left + MR - 1) / MR; blocks > 0; blocks--) {
    size_t rows = (left + blocks - 1) / blocks;
    auto one = [&](auto self, auto constant) {
      constexpr int R = decltype(constant)::value;
      if constexpr (R == 1) {
        f(constant, begin);
      } else {
        if (rows == R)
          f(constant, begin);
        else
          self(self, std::integral_constant<int, R - 1>{});
      }
    };
    one(one, std::integral_constant<int, MR>{});
    begin += rows;
    left -= rows;
  }
}

inline size_t panels(size_t columns) { return (columns + W - 1) / W; }

// Pack the rows of `gates` blocks of H rows, (gates * H, K) row-major with row stride `stride`,
// as columns: panel p holds `vectors` times W units from p * vectors * W on, each vector of them
// gate by gate. Missing units are 0, and so is all where there is no matrix.
inline void pack_gates(const float* matrix, size_t stride, int gates, size_t H, size_t K,
                       float* out, int vectors = 1) {
  const size_t wide = vectors * W;
  for (size_t first = 0; first < H; first += wide)
    for (size_t k = 0; k < K; k++)
      for (size_t v = first; v < first + wide; v += W)
        for (int g = 0; g < gates; g++)
          for (size_t unit = v; unit < v + W; unit++, out++)
            *out = matrix && unit < H ? matrix[(g * H + unit) * stride + k] : 0.0f;
}

constexpr int WIDE = 4;  // vectors of a panel that is no gate's

// Pack (K, N) row-major with row stride `stride` into panels of WIDE vectors.
inline void pack_columns(const float* matrix, size_t stride, size_t K, size_t N, float* out) {
  for (size_t n = 0; n < N; n += WIDE * W)
    for (size_t k = 0; k < K; k++)
      for (size_t j = 0; j < WIDE * W; j++, out++)
        *out = n + j < N ? matrix[k * stride + n + j] : 0.0f;
}
inline size_t packed_columns(size_t K, size_t N) {
  return (N + WIDE * W - 1) / (WIDE * W) * (WIDE * W) * K;
}

// c[m][0..N) = sum_k a[m][k] * b[k][n] for rows m of [begin, end); row pointers by functions.
template <class A, class C>
inline void multiply(size_t begin, size_t end, size_t K, size_t N, A&& a, const float* packed,
                     C&& c) {
  constexpr int MR = tile_rows(WIDE);
  for (size_t n = 0; n < N; n += WIDE * W, packed += WIDE * W * K) {
    by_tiles<MR>(begin, end, [&](auto rows, size_t m) {
      constexpr int R = decltype(rows)::value;
      const float* row[R];
      for (int i = 0; i < R; i++) row[i] = a(m + i);
      V acc[R][WIDE] = {};
      accumulate<R, WIDE>(acc, row, packed, K);
      for (int i = 0; i < R; i++) {
        float* out = c(m + i) + n;
        for (int j = 0; j < WIDE; j++) {
          size_t at = n + j * W;
          if (at + W <= N)
            store(out + j * W, acc[i][j]);
          else if (at < N)
            store_part(out + j * W, acc[i][j], N - at);
        }
      }
    });
  }
}

// Blocks of `outer_parts`: a panel of b stays in the first cache while it meets all tiles of a,
// which stay in the second one.
constexpr size_t OUTER_K = 160, OUTER_TILES = 40;

// Numbers that `outer_parts` needs for itself.
inline size_t outer_scratch(size_t N, int parts = 1) {
  return OUTER_TILES * tile_rows(WIDE) * OUTER_K + parts * packed_columns(OUTER_K, N);
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

// out(part, m)[n] += sum_k a(k)[m] * b(part, k)[n] for columns m of [begin, end) of a and N
// columns n of each part; out may be nullptr where nobody wants the row. Blocks of k follow each
// other in order.
template <int PARTS, class A, class B, class O>
inline void outer_parts(size_t begin, size_t end, size_t N, size_t K, A&& a, B&& b, O&& out,
                        float* scratch) {
  constexpr int MR = tile_rows(WIDE);
  const size_t part_size = packed_columns(OUTER_K, N);
  float *pa = scratch, *pb = pa + OUTER_TILES * MR * OUTER_K;
  for (size_t k0 = 0; k0 < K; k0 += OUTER_K) {
    const size_t kc = std::min(OUTER_K, K - k0);
    for (int part = 0; part < PARTS; part++)
      pack_rows(N, kc, [&](size_t k) { return b(part, k0 + k); }, pb + part * part_size);
    for (size_t m0 = begin; m0 < end; m0 += OUTER_TILES * MR) {
      const size_t rows = std::min(OUTER_TILES * MR, end - m0);
      pack_tiles(m0, rows, kc, [&](size_t k) { return a(k0 + k); }, pa);
      for (int part = 0; part < PARTS; part++)
        for (size_t n = 0; n < N; n += WIDE * W)
          for (size_t m = 0; m < rows; m += MR) {
            float* to[MR] = {};
            for (int i = 0; i < MR && m + i < rows; i++) {
              float* row = out(part, m0 + m + i);
              if (!row) continue;
              to[i] = row + n;
              for (int j = 0; j < WIDE && n + j * W < N; j++) __builtin_prefetch(to[i] + j * W, 1);
            }
            V acc[MR][WIDE] = {};
            const float *ta = pa + m * OUTER_K, *tb = pb + part * part_size + n * OUTER_K;
            for (size_t k = 0; k < kc; k++, ta += MR, tb += WIDE * W) {
              V panel[WIDE];
              for (int j = 0; j < WIDE; j++) panel[j] = load(tb + j * W);
              for (int i = 0; i < MR; i++) {
                V s = all(ta[i]);
                for (int j = 0; j < WIDE; j++) acc[i][j] += s * panel[j];
              }
            }
            for (int i = 0; i < MR; i++)
              for (int j = 0; to[i] && j < WIDE; j++) {
                float* sum = to[i] + j * W;
                const size_t at = n + j * W;
                if (at + W <= N)
                  store(sum, load(sum) + acc[i][j]);
                else if (at < N)
                  store_part(sum, load_part(sum, N - at) + acc[i][j], N - at);
              }
          }
    }
  }
}

// One part: out(m)[n] += sum_k a(k)[m] * b(k)[n].
template <class A, class B, class O>
inline void outer_rows(size_t begin, size_t end, size_t N, size_t K, A&& a, B&& b, O&& out,
                       float* scratch) {
  outer_parts<1>(
      begin, end, N, K, a, [&](int, size_t k) { return b(k); },
      [&](int, size_t m) { return out(m); }, scratch);
}

}  // namespace TR_TARGET
