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
#include <vector>

#include "vector.h"

namespace TR_TARGET {

// Rows of a tile: as many as leave registers for the panel and one factor.
constexpr int tile_rows(int vectors) {
  return std::max(1, ((W == 16 ? 32 : 16) - vectors - 1) / vectors);
}

// acc[i][j] += sum_k a[i][k] * b[k][j], with b one packed panel.
template <int MR, int NV>
__attribute__((always_inline)) inline void accumulate(V (&acc)[MR][NV], const float* const* a,
                                                       const float* b, size_t K) {
  const float* row[MR];
  for (int i = 0; i < MR; i++) row[i] = a[i];
  for (size_t k = 0; k < K; k++, b += NV * W) {
    V panel[NV];
    for (int j = 0; j < NV; j++) panel[j] = load(b + j * W);
    for (int i = 0; i < MR; i++) {
      V s = all(row[i][k]);
      for (int j = 0; j < NV; j++) acc[i][j] += s * panel[j];
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
// as columns: panel u holds unit u * W .. of every gate, gate by gate. Missing units are 0.
inline void pack_gates(const float* weight, size_t stride, int gates, size_t H, size_t K,
                       float* out) {
  for (size_t u = 0; u < panels(H); u++)
    for (size_t k = 0; k < K; k++)
      for (int g = 0; g < gates; g++)
        for (size_t j = 0; j < W; j++, out++) {
          size_t unit = u * W + j;
          *out = unit < H ? weight[(g * H + unit) * stride + k] : 0.0f;
        }
}

inline void pack_bias(const float* bias, int gates, size_t H, float* out) {
  for (size_t u = 0; u < panels(H); u++)
    for (int g = 0; g < gates; g++)
      for (size_t j = 0; j < W; j++, out++) {
        size_t unit = u * W + j;
        *out = bias && unit < H ? bias[g * H + unit] : 0.0f;
      }
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

// out (M, N) += sum_k a_k[m] * b_k[n]: rows m of [begin, end) only. a(k), b(k) point to rows of M
// and N numbers. Blocks of k are packed and summed one after the other, in order.
template <class A, class B>
inline void outer(size_t begin, size_t end, size_t N, size_t K, A&& a, B&& b, float* out,
                  size_t stride, std::vector<float>& scratch) {
  constexpr size_t KC = 256;
  constexpr int MR = tile_rows(WIDE);
  const size_t rows = end - begin, tiles = (rows + MR - 1) / MR;
  const size_t for_a = tiles * MR * KC, for_b = packed_columns(KC, N);
  if (scratch.size() < for_a + for_b) scratch.resize(for_a + for_b);
  float *pa = scratch.data(), *pb = pa + for_a;
  for (size_t k0 = 0; k0 < K; k0 += KC) {
    const size_t kc = std::min(KC, K - k0);
    for (size_t k = 0; k < kc; k++) {
      const float* from = a(k0 + k) + begin;
      for (size_t t = 0; t < tiles; t++)
        for (int i = 0; i < MR; i++)
          pa[(t * KC + k) * MR + i] = t * MR + i < rows ? from[t * MR + i] : 0.0f;
    }
    for (size_t k = 0; k < kc; k++) {
      const float* from = b(k0 + k);
      for (size_t n = 0; n < N; n += WIDE * W) {
        float* to = pb + n * KC + k * WIDE * W;
        const size_t count = std::min(N - n, WIDE * W);
        std::memcpy(to, from + n, count * sizeof(float));
        std::fill(to + count, to + WIDE * W, 0.0f);
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
        for (int i = 0; i < MR && t * MR + i < rows; i++)
          for (int j = 0; j < WIDE; j++) {
            float* to = out + (begin + t * MR + i) * stride + n + j * W;
            size_t at = n + j * W;
            if (at + W <= N)
              store(to, load(to) + acc[i][j]);
            else if (at < N)
              store_part(to, load_part(to, N - at) + acc[i][j], N - at);
          }
      }
  }
}

}  // namespace TR_TARGET
