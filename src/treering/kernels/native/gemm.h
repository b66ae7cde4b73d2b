// Products of row blocks with packed matrices, and the products that weight gradients are.
//
// A packed matrix has panels of NV vectors of W columns; in a panel the rows k follow each other.
// A tile of MR rows and one panel is summed in registers over all k in order, so that a result
// does not depend on how rows and panels are shared out among threads.
//
// Legend: M rows, N columns, K the summed axis.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include "vector.h"

namespace TR_TARGET {

// Rows of a packed matrix that stand side by side, column by column, in numbers of type E.
template <class E>
constexpr size_t ABREAST = 1;

template <class E>
inline size_t packed_rows(size_t K) {
  return (K + ABREAST<E> - 1) / ABREAST<E> * ABREAST<E>;
}

// Rows of a tile: as many as leave registers for the panel and one factor.
constexpr int tile_rows(int vectors) {
  return std::max(1, ((W == 16 ? 32 : 16) - vectors - 1) / vectors);
}

// acc[i][O + j] += a[i] * b[j], with b one row of L vectors of a packed panel.
template <int MR, int NV, int L = NV, int O = 0>
__attribute__((always_inline)) inline void add_products(V (&acc)[MR][NV],
                                                         const float* const (&a)[MR],
                                                         const float* b) {
  V panel[L];
  for (int j = 0; j < L; j++) panel[j] = load(b + j * W);
  for (int i = 0; i < MR; i++) {
    V s = all(*a[i]);
    for (int j = 0; j < L; j++) acc[i][O + j] += s * panel[j];
  }
}

// acc[i][O + j] += sum_k a[i][k] * b[k][j], with b one packed panel.
template <int MR, int NV, int L = NV, int O = 0>
__attribute__((always_inline)) inline void accumulate(V (&acc)[MR][NV], const float* const* a,
                                                       const float* b, size_t K) {
  const float* row[MR];
  for (int i = 0; i < MR; i++) row[i] = a[i];
  for (size_t k = 0; k < K; k++, b += L * W) {
    const float* at[MR];
    for (int i = 0; i < MR; i++) at[i] = row[i] + k;
    add_products<MR, NV, L, O>(acc, at, b);
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

// What a tile makes of R rows: from + sum_part a[part] * panel[part], (R, NV * W). `a` has R rows
// for each part, and a panel the rows of the parts one after the other.
template <class E>
using Tile = void (*)(const E* const* a, int parts, const E* panel, size_t K, const float* from,
                      float* out);

template <int R, int NV, class E>
void tile(const E* const* a, int parts, const E* panel, size_t K, const float* from, float* out) {
  V acc[R][NV];
  for (int i = 0; i < R; i++)
    for (int j = 0; j < NV; j++) acc[i][j] = load(from + j * W);
  for (int part = 0; part < parts; part++, a += R, panel += packed_rows<E>(K) * NV * W)
    accumulate<R, NV>(acc, a, panel, K);
  for (int i = 0; i < R; i++)
    for (int j = 0; j < NV; j++) store(out + (i * NV + j) * W, acc[i][j]);
}

template <int NV, class E, size_t... R>
inline Tile<E> tile_of(size_t rows, std::index_sequence<R...>) {
  static constexpr Tile<E> TILES[] = {tile<R + 1, NV, E>...};
  return TILES[rows - 1];
}

// f(first, rows, out) for tiles of the rows [begin, end) with one panel; a(part, row) as in `tile`.
template <int NV, int PARTS, class E, class A, class F>
inline void by_tiles_of(size_t begin, size_t end, A&& a, const E* panel, size_t K,
                        const float* from, F&& f) {
  constexpr size_t MR = tile_rows(NV);
  alignas(64) float out[MR * NV * W];
  const E* at[PARTS * MR];
  size_t left = end - begin;
  // Tiles as equal as possible.
  for (size_t tiles = (left + MR - 1) / MR; tiles > 0; tiles--) {
    const size_t rows = (left + tiles - 1) / tiles;
    for (int part = 0; part < PARTS; part++)
      for (size_t i = 0; i < rows; i++) at[part * rows + i] = a(part, begin + i);
    tile_of<NV, E>(rows, std::make_index_sequence<MR>{})(at, PARTS, panel, K, from, out);
    f(begin, rows, out);
    begin += rows;
    left -= rows;
  }
}

inline size_t panels(size_t columns) { return (columns + W - 1) / W; }

inline float as_float(float number) { return number; }

// Pack the rows of `gates` blocks of H rows, (gates * H, parts * K) row-major with row stride
// `stride`, as columns: panel p holds `vectors` times W units from p * vectors * W on, each vector
// of them gate by gate; the parts of a panel follow each other. Missing units are 0, and so is all
// where there is no matrix.
template <class From, class To>
inline void pack_gates(const From* matrix, size_t stride, int gates, size_t H, size_t K, To* out,
                       int vectors = 1, int parts = 1) {
  auto number = [&](size_t row, size_t column) {
    if constexpr (std::is_same_v<From, To>)
      return matrix[row * stride + column];
    else
      return as_float(matrix[row * stride + column]);
  };
  const size_t wide = vectors * W;
  for (size_t first = 0; first < H; first += wide)
    for (int part = 0; part < parts; part++)
      for (size_t k = 0; k < K; k += ABREAST<To>)
        for (size_t v = first; v < first + wide; v += W)
          for (int g = 0; g < gates; g++)
            for (size_t unit = v; unit < v + W; unit++)
              for (size_t next = k; next < k + ABREAST<To>; next++, out++)
                *out = matrix && unit < H && next < K ? number(g * H + unit, part * K + next)
                                                      : To{};
}

constexpr int WIDE = 4;  // vectors of a panel that is no gate's

// Columns [first, first + count) of the row k of `rows`, and as many zeros as make up `width`,
// which is whole vectors.
template <class R>
inline void side_by_side(R&& rows, size_t k, size_t, size_t first, size_t count, size_t width,
                         float* out) {
  const float* row = rows(k) + first;
  size_t n = 0;
  for (; n + W <= count; n += W) store(out + n, load(row + n));
  for (; n < width; n += W) store(out + n, n < count ? load_part(row + n, count - n) : V{});
}

// The same, where they are if there is nothing to change about them.
template <class R>
inline const float* beside(R&& rows, size_t k, size_t K, size_t first, size_t count, size_t width,
                           float* room) {
  if (count == width) return rows(k) + first;
  side_by_side(rows, k, K, first, count, width, room);
  return room;
}

// Pack (K, N) row-major with row stride `stride` into panels of WIDE vectors.
template <class E>
inline void pack_columns(const E* matrix, size_t stride, size_t K, size_t N, E* out) {
  constexpr size_t G = ABREAST<E>;
  for (size_t n = 0; n < N; n += WIDE * W)
    for (size_t k = 0; k < K; k += G, out += WIDE * W * G)
      side_by_side([&](size_t row) { return matrix + row * stride; }, k, K, n,
                   std::min(N - n, WIDE * W), WIDE * W, out);
}
template <class E = float>
inline size_t packed_columns(size_t K, size_t N) {
  return (N + WIDE * W - 1) / (WIDE * W) * (WIDE * W) * packed_rows<E>(K);
}

// c[m][0..N) = sum_k a[m][k] * b[k][n] for rows m of [begin, end); row pointers by functions.
template <class E, class A, class C>
inline void multiply(size_t begin, size_t end, size_t K, size_t N, A&& a, const E* packed, C&& c) {
  static constexpr float NOTHING[WIDE * W] = {};
  for (size_t n = 0; n < N; n += WIDE * W, packed += WIDE * W * packed_rows<E>(K))
    by_tiles_of<WIDE, 1>(
        begin, end, [&](int, size_t m) { return a(m); }, packed, K, NOTHING,
        [&](size_t m, size_t rows, const float* from) {
          for (size_t i = 0; i < rows; i++) {
            auto* out = c(m + i);
            for (size_t at = n; at < std::min(N, n + WIDE * W); at += W, from += W)
              at + W <= N ? store(out + at, load(from)) : store_part(out + at, load(from), N - at);
            from += (N - n < WIDE * W ? WIDE - panels(N - n) : 0) * W;
          }
        });
}

// Blocks of `outer_parts`: a panel of b stays in the first cache while it meets all tiles of a,
// which stay in the second one.
template <class E>
constexpr size_t OUTER_K = 1024 / sizeof(E);
constexpr size_t OUTER_TILES = 40;

// Numbers that `outer_parts` needs for itself; N columns of each part.
template <class E = float>
inline size_t outer_scratch(std::initializer_list<size_t> N) {
  size_t size = OUTER_TILES * tile_rows(WIDE) * OUTER_K<E>;
  for (size_t of_part : N) size += packed_columns<E>(OUTER_K<E>, of_part);
  return size;
}

// Columns [begin, begin + rows) of a(0) .. a(K - 1), tile by tile.
template <class E, class A>
inline void pack_tiles(size_t begin, size_t rows, size_t K, A&& a, E* out) {
  // Rows lie far apart, where no processor looks for the next one by itself.
  constexpr size_t MR = tile_rows(WIDE), NEIGHBOURS = 8, G = ABREAST<E>, AHEAD = 12, LINE = 64;
  // A few tiles at once use up what a row brings into the cache.
  for (size_t first = 0; first < rows; first += NEIGHBOURS * MR) {
    const size_t count = std::min(rows - first, NEIGHBOURS * MR);
    for (size_t k = 0; k < K; k += G) {
      for (size_t ahead = k + AHEAD; ahead < std::min(K, k + AHEAD + G); ahead++)
        for (size_t byte = 0; byte < count * sizeof(E); byte += LINE)
          __builtin_prefetch(reinterpret_cast<const char*>(a(ahead) + begin + first) + byte);
      E room[NEIGHBOURS * MR * G];
      const E* numbers = beside(a, k, K, begin + first, count, NEIGHBOURS * MR, room);
      for (size_t m = 0; m < count; m += MR)
        std::memcpy(out + (first + m) * OUTER_K<E> + k * MR, numbers + m * G, MR * G * sizeof(E));
    }
  }
}

template <class E, class B>
inline void pack_rows(size_t N, size_t K, B&& b, E* out) {
  for (size_t k = 0; k < K; k += ABREAST<E>)
    for (size_t n = 0; n < N; n += WIDE * W)
      side_by_side(b, k, K, n, std::min(N - n, WIDE * W), WIDE * W,
                   out + n * OUTER_K<E> + k * WIDE * W);
}

// A tile of `outer_parts`: out[i][j] = sum_k a[k][i] * b[k][j], with NV vectors of b's WIDE.
template <class E, int NV>
void outer_tile(const E* a, const E* b, size_t K, float* out) {
  constexpr int MR = tile_rows(WIDE);
  constexpr size_t G = ABREAST<E>;
  // What a loop of varying bounds reads would be kept in memory throughout.
  V acc[MR][NV];
  for (int i = 0; i < MR; i++)
    for (int j = 0; j < NV; j++) acc[i][j] = V{};
  for (size_t k = 0; k < K; k += G, a += MR * G, b += WIDE * W * G) {
    const E* column[MR];
    for (int i = 0; i < MR; i++) column[i] = a + i * G;
    add_products(acc, column, b);
  }
  for (int i = 0; i < MR; i++)
    for (int j = 0; j < NV; j++) store(out + (i * NV + j) * W, acc[i][j]);
}

// out(part, m)[n] += sum_k a(k)[m] * b(part, k)[n] for columns m of [begin, end) of a and
// N[part] columns n of each part; out may be nullptr where nobody wants the row. Blocks of k
// follow each other in order.
template <class E, size_t PARTS, class A, class B, class O>
inline void outer_parts(size_t begin, size_t end, const size_t (&N)[PARTS], size_t K, A&& a, B&& b,
                        O&& out, E* scratch) {
  constexpr int MR = tile_rows(WIDE);
  static constexpr void (*TILES[])(const E*, const E*, size_t, float*) = {
      outer_tile<E, 1>, outer_tile<E, 2>, outer_tile<E, 3>, outer_tile<E, WIDE>};
  static_assert(WIDE == 4);
  E *pa = scratch, *pb[PARTS];
  pb[0] = pa + OUTER_TILES * MR * OUTER_K<E>;
  for (size_t part = 1; part < PARTS; part++)
    pb[part] = pb[part - 1] + packed_columns<E>(OUTER_K<E>, N[part - 1]);
  for (size_t k0 = 0; k0 < K; k0 += OUTER_K<E>) {
    const size_t kc = std::min(OUTER_K<E>, K - k0);
    for (size_t part = 0; part < PARTS; part++)
      pack_rows(N[part], kc, [&](size_t k) { return b(part, k0 + k); }, pb[part]);
    for (size_t m0 = begin; m0 < end; m0 += OUTER_TILES * MR) {
      const size_t rows = std::min(OUTER_TILES * MR, end - m0);
      pack_tiles(m0, rows, kc, [&](size_t k) { return a(k0 + k); }, pa);
      for (size_t part = 0; part < PARTS; part++)
        for (size_t n = 0; n < N[part]; n += WIDE * W) {
          const size_t vectors = std::min<size_t>(WIDE, panels(N[part] - n));
          for (size_t m = 0; m < rows; m += MR) {
            float* to[MR] = {};
            bool wanted = false;
            for (size_t i = 0; i < MR && m + i < rows; i++) {
              float* row = out(part, m0 + m + i);
              if (!row) continue;
              wanted = true;
              to[i] = row + n;
              for (size_t j = 0; j < vectors; j++) __builtin_prefetch(to[i] + j * W, 1);
            }
            if (!wanted) continue;
            alignas(64) float sums[MR * WIDE * W];
            TILES[vectors - 1](pa + m * OUTER_K<E>, pb[part] + n * OUTER_K<E>, kc, sums);
            for (int i = 0; i < MR; i++)
              for (size_t j = 0; to[i] && j < vectors; j++) {
                float* sum = to[i] + j * W;
                const V more = load(sums + (i * vectors + j) * W);
                const size_t left = N[part] - n - j * W;
                if (left >= W)
                  store(sum, load(sum) + more);
                else
                  store_part(sum, load_part(sum, left) + more, left);
              }
          }
        }
    }
  }
}

}  // namespace TR_TARGET
