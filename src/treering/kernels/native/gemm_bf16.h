// The products of gemm.h on bfloat16 numbers, summed in float.
//
// Two rows of a packed matrix stand side by side, column by column: such a pair is what one
// instruction multiplies with another pair and adds up. Of an odd number of rows the last one is
// paired with 0. Targets without that instruction widen both numbers.
//
// Legend: K the summed axis.
#pragma once
#include "bf16.h"
#include "gemm.h"

namespace TR_TARGET {

template <>
constexpr size_t ABREAST<bf16> = 2;

typedef uint32_t Pair;  // the first number is the lower half

inline Pair pair_at(const bf16* p) {
  Pair both;
  std::memcpy(&both, p, sizeof(both));
  return both;
}

// acc[i][j] += a[i] . b[j], sums of two products, with b one row of pairs of a packed panel.
template <int MR, int NV>
__attribute__((always_inline)) inline void add_pairs(V (&acc)[MR][NV], const Pair (&a)[MR],
                                                      const bf16* b) {
#if defined(__AVX512BF16__)
  __m512bh panel[NV];
  for (int j = 0; j < NV; j++) panel[j] = (__m512bh)_mm512_loadu_si512(b + j * 2 * W);
  for (int i = 0; i < MR; i++) {
    const __m512bh both = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[i]));
    for (int j = 0; j < NV; j++)
      acc[i][j] = (V)_mm512_dpbf16_ps((__m512)acc[i][j], both, panel[j]);
  }
#else
  constexpr Pair UPPER = 0xffff0000;
  Words panel[NV];
  std::memcpy(panel, b, sizeof(panel));
  for (int i = 0; i < MR; i++) {
    const V s = (V)((Words{} + a[i]) << 16);
    for (int j = 0; j < NV; j++) acc[i][j] += s * (V)(panel[j] << 16);
  }
  for (int i = 0; i < MR; i++) {
    const V s = (V)((Words{} + a[i]) & UPPER);
    for (int j = 0; j < NV; j++) acc[i][j] += s * (V)(panel[j] & UPPER);
  }
#endif
}

template <int MR, int NV>
__attribute__((always_inline)) inline void add_products(V (&acc)[MR][NV],
                                                         const bf16* const (&a)[MR],
                                                         const bf16* b) {
  Pair pairs[MR];
  for (int i = 0; i < MR; i++) pairs[i] = pair_at(a[i]);
  add_pairs(acc, pairs, b);
}

// acc[i][j] += sum_k a[i][k] * b[k][j], with b one packed panel.
template <int MR, int NV>
__attribute__((always_inline)) inline void accumulate(V (&acc)[MR][NV], const bf16* const* a,
                                                       const bf16* b, size_t K) {
  const bf16* row[MR];
  for (int i = 0; i < MR; i++) row[i] = a[i];
  Pair pairs[MR];
  size_t k = 0;
  for (; k + 1 < K; k += 2, b += NV * 2 * W) {
    for (int i = 0; i < MR; i++) pairs[i] = pair_at(row[i] + k);
    add_pairs(acc, pairs, b);
  }
  // What follows a row's last number is not its own and may be anything.
  if (k == K) return;
  for (int i = 0; i < MR; i++) pairs[i] = row[i][k].bits;
  add_pairs(acc, pairs, b);
}

// Columns [first, first + count) of the rows k and k + 1 of `rows`, of which there are K, and as
// many zeros as make up `width`.
template <class R>
inline void side_by_side(R&& rows, size_t k, size_t K, size_t first, size_t count, size_t width,
                         bf16* out) {
  const bf16 *a = rows(k) + first, *b = k + 1 < K ? rows(k + 1) + first : nullptr;
  size_t n = 0;
  for (; n + W <= count; n += W) {
    Halves lower, upper{};
    std::memcpy(&lower, a + n, sizeof(lower));
    if (b) std::memcpy(&upper, b + n, sizeof(upper));
    const Words both =
        __builtin_convertvector(lower, Words) | __builtin_convertvector(upper, Words) << 16;
    std::memcpy(out + 2 * n, &both, sizeof(both));
  }
  for (; n < width; n++) {
    out[2 * n] = n < count ? a[n] : bf16{};
    out[2 * n + 1] = n < count && b ? b[n] : bf16{};
  }
}

template <class R>
inline const bf16* beside(R&& rows, size_t k, size_t K, size_t first, size_t count, size_t width,
                          bf16* room) {
  side_by_side(rows, k, K, first, count, width, room);
  return room;
}

}  // namespace TR_TARGET
