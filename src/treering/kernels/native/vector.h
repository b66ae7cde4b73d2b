// Vectors of W floats and the functions that gates are made of.
//
// W is what one register of the target holds: 16 (AVX-512), 8 (AVX2) or 4. All arithmetic is
// written with the compiler's vector types, so one source serves every target.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef TR_WIDTH
#error "define TR_WIDTH as the number of floats in a register of the target"
#endif

#if TR_WIDTH >= 8
#include <immintrin.h>
#endif

namespace TR_TARGET {

constexpr size_t W = TR_WIDTH;
typedef float V __attribute__((vector_size(4 * TR_WIDTH)));
typedef int32_t VI __attribute__((vector_size(4 * TR_WIDTH)));
typedef float VU __attribute__((vector_size(4 * TR_WIDTH), aligned(4)));

inline V load(const float* p) { return *(const VU*)p; }
inline void store(float* p, V v) { *(VU*)p = v; }
// s - 0 is s, which the compiler knows; of 0 + s it would have to make +0 out of -0.
inline V all(float s) { return s - V{}; }

// The first n < W floats only; the rest is 0, or left alone. What compilers make of a short copy
// of unknown length takes longer than all arithmetic on it.
#if TR_WIDTH == 16
inline V load_part(const float* p, size_t n) {
  return (V)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
inline void store_part(float* p, V v, size_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
}
#elif TR_WIDTH == 8
inline __m256i first_lanes(size_t n) {
  return (__m256i)(VI{0, 1, 2, 3, 4, 5, 6, 7} < static_cast<int32_t>(n));
}
inline V load_part(const float* p, size_t n) { return (V)_mm256_maskload_ps(p, first_lanes(n)); }
inline void store_part(float* p, V v, size_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), (__m256)v);
}
#else
inline V load_part(const float* p, size_t n) {
  V v{};
  for (size_t lane = 0; lane < n; lane++) v[lane] = p[lane];
  return v;
}
inline void store_part(float* p, V v, size_t n) {
  for (size_t lane = 0; lane < n; lane++) p[lane] = v[lane];
}
#endif

inline V choose(VI mask, V yes, V no) { return (V)((mask & (VI)yes) | (~mask & (VI)no)); }
inline V least(V a, V b) { return choose(a < b, a, b); }
inline V most(V a, V b) { return choose(a > b, a, b); }

// e^x for |x| <= 88, to about one unit in the last place: x = n ln 2 + r, |r| <= ln 2 / 2.
inline V exp_bounded(V x) {
  const V shifter = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  V n = (x * all(1.44269504088896341f) + shifter) - shifter;
  V r = x - n * all(0.693359375f);
  r = r - n * all(-2.12194440e-4f);
  V p = all(1.9875691500e-4f);
  p = p * r + all(1.3981999507e-3f);
  p = p * r + all(8.3334519073e-3f);
  p = p * r + all(4.1665795894e-2f);
  p = p * r + all(1.6666665459e-1f);
  p = p * r + all(5.0000001201e-1f);
  p = p * (r * r) + r + all(1.0f);
  VI power = (__builtin_convertvector(n, VI) + 127) << 23;
  return p * (V)power;
}

// NaN stays NaN: comparisons with it are false, so the bounds must be chosen on that side; and of
// two operands one of which is NaN an instruction for the greater or the less leaves the second.
inline V bounded(V x, float limit) {
#if TR_WIDTH == 16
  // GCC 12 warns of intrinsics without a mask.
  const __m512 above = _mm512_maskz_max_ps(0xffff, (__m512)all(-limit), (__m512)x);
  return (V)_mm512_maskz_min_ps(0xffff, (__m512)all(limit), above);
#elif TR_WIDTH == 8
  const __m256 above = _mm256_max_ps((__m256)all(-limit), (__m256)x);
  return (V)_mm256_min_ps((__m256)all(limit), above);
#else
  V below = choose(x < all(-limit), all(-limit), x);
  return choose(below > all(limit), all(limit), below);
#endif
}

// 1 / q for q of 1 and more, to about one unit in the last place.
inline V over(V q) {
#if TR_WIDTH == 16
  const V r = (V)_mm512_maskz_rcp14_ps(0xffff, (__m512)q);
  return r + r * (all(1.0f) - q * r);
#else
  return all(1.0f) / q;
#endif
}

inline V sigmoid(V x) { return over(all(1.0f) + exp_bounded(-bounded(x, 87.0f))); }

inline V tanh(V x) {
  V b = bounded(x, 20.0f);
  // Of the size alone: 2 / (e^2x + 1) of a negative x is no small number, nor is its error.
  const VI sign = (VI)b & INT32_MIN;
  const V size = (V)((VI)b & INT32_MAX);
  V large = all(1.0f) - all(2.0f) * over(exp_bounded(size + size) + all(1.0f));
  V s = b * b;
  V p = all(-5.70498872745e-3f);
  p = p * s + all(2.06390887954e-2f);
  p = p * s + all(-5.37397155531e-2f);
  p = p * s + all(1.33314422036e-1f);
  p = p * s + all(-3.33332819422e-1f);
  V small = p * s * b + b;
  return choose(size < all(0.625f), small, (V)((VI)large | sign));
}

// What the gates of a state are made of that is kept in numbers of type E.
template <class E>
struct Functions {
  static V sigmoid(V x) { return TR_TARGET::sigmoid(x); }
  static V tanh(V x) { return TR_TARGET::tanh(x); }
};

}  // namespace TR_TARGET
