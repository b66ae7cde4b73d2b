// bfloat16 numbers: the upper half of a float, 8 bits of precision. They are kept and multiplied;
// everything else is computed in float.
//
// A target with instructions for them takes numbers below 2^-126 for 0.
#pragma once
#include "vector.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first of two numbers is the lower");

namespace TR_TARGET {

struct bf16 {
  uint16_t bits;
};

inline float as_float(bf16 number) {
  const uint32_t bits = static_cast<uint32_t>(number.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
}

typedef uint16_t Halves __attribute__((vector_size(2 * TR_WIDTH)));
typedef uint32_t Words __attribute__((vector_size(4 * TR_WIDTH)));

inline V widened(Halves halves) { return (V)(__builtin_convertvector(halves, Words) << 16); }

// To the nearest, of two the even one; NaN stays NaN.
inline Halves narrowed(V v) {
#if defined(__AVX512BF16__)
  const __m256bh rounded = _mm512_cvtneps_pbh((__m512)v);
  Halves out;
  std::memcpy(&out, &rounded, sizeof(out));
  return out;
#else
  const Words bits = (Words)v;
  const Words nearest = bits + 0x7fff + ((bits >> 16) & 1), quiet = bits | 0x400000;
  return __builtin_convertvector((Words)choose(v == v, (V)nearest, (V)quiet) >> 16, Halves);
#endif
}

inline V load(const bf16* p) {
  Halves halves;
  std::memcpy(&halves, p, sizeof(halves));
  return widened(halves);
}
inline void store(bf16* p, V v) {
  const Halves halves = narrowed(v);
  std::memcpy(p, &halves, sizeof(halves));
}
inline V load_part(const bf16* p, size_t n) {
  Halves halves{};
  std::memcpy(&halves, p, n * sizeof(bf16));
  return widened(halves);
}
inline void store_part(bf16* p, V v, size_t n) {
  const Halves halves = narrowed(v);
  std::memcpy(p, &halves, n * sizeof(bf16));
}

#if TR_WIDTH == 16
// To 2^-13 of the result, a sixteenth of what rounding a state takes away.
template <>
struct Functions<bf16> {
  static V sigmoid(V x) {
    // 2^y = 2^(y - floor(y)) 2^floor(y), for all y: beyond the exponents it is 0 or infinite.
    const V y = x * all(-1.44269504f);
    const V r = (V)_mm512_maskz_reduce_ps(ALL, (__m512)y, _MM_FROUND_TO_NEG_INF);
    V p = all(7.802449e-2f);
    p = p * r + all(2.2606758e-1f);
    p = p * r + all(6.9583318e-1f);
    p = p * r + all(9.9992528e-1f);
    return over((V)_mm512_maskz_scalef_ps(ALL, (__m512)p, (__m512)y) + all(1.0f));
  }

  static V tanh(V x) {
    // Beyond 4.9 it is 1 to 2^-13.
    const V b = bounded(x, 4.9f), s = b * b;
    // The quotient of polynomials nearest to tanh(x) / x.
    const V p = (s * all(6.8018377e-4f) + all(1.027241e-1f)) * s + all(9.99953667e-1f);
    const V q = (s * all(1.29144591e-2f) + all(4.35768617e-1f)) * s + all(1.0f);
    return b * p * over(q);
  }

 private:
  // GCC 12 warns of intrinsics without a mask.
  static constexpr __mmask16 ALL = 0xffff;

  static V over(V q) { return (V)_mm512_maskz_rcp14_ps(ALL, (__m512)q); }
};
#endif

}  // namespace TR_TARGET
