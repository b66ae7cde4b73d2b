// bfloat16: rounding, gates' functions, and packed products against plain loops in double, at odd
// sizes too. What follows a row is NaN, so that whoever reads it is found out.
//
// Legend: M rows, N columns, K the summed axis.
#include "gemm_bf16.h"

#include <cfloat>
#include <limits>

#include "check.h"

using namespace TR_TARGET;

static bf16 rounded(float f) {
  bf16 lanes[W];
  store(lanes, all(f));
  return lanes[0];
}

static float of_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}

// `rows` rows of `columns` numbers, each of them followed by NaN.
struct Rows {
  size_t columns;
  std::vector<bf16> numbers;
  Rows(size_t rows, size_t columns) : columns(columns), numbers(rows * (columns + 1)) {
    const auto drawn = ::numbers(numbers.size());
    for (size_t n = 0; n < numbers.size(); n++)
      numbers[n] = (n + 1) % (columns + 1) ? rounded(drawn[n]) : bf16{0x7fff};
  }
  const bf16* operator[](size_t row) const { return numbers.data() + row * (columns + 1); }
  double at(size_t row, size_t column) const { return as_float((*this)[row][column]); }
};

static void rounding() {
  bf16 lanes[W];
  for (uint32_t bits = 0; bits < 1 << 16; bits++) {
    const bf16 number{static_cast<uint16_t>(bits)};
    const float f = as_float(number);
    if (std::isnan(f)) {
      CHECK(std::isnan(as_float(rounded(f))), "%x is NaN", bits);
      continue;
    }
    if (std::fabs(f) < FLT_MIN) continue;
    CHECK(rounded(f).bits == bits, "%x becomes %x", bits, rounded(f).bits);
    // To the nearer neighbour; from the middle to the even one.
    const uint32_t wide = bits << 16;
    if (std::isinf(f)) continue;
    CHECK(rounded(of_bits(wide + 0x7fff)).bits == bits, "just below the middle above %x", bits);
    CHECK(rounded(of_bits(wide + 0x8001)).bits == bits + 1, "just above the middle above %x", bits);
    CHECK(rounded(of_bits(wide + 0x8000)).bits == bits + bits % 2, "the middle above %x", bits);
  }
  for (uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu})
    CHECK(std::isnan(as_float(rounded(of_bits(bits)))), "%x is NaN", bits);
  for (size_t n = 1; n <= W; n++) {
    const auto from = numbers(n);
    std::vector<bf16> to(n);
    V v{};
    for (size_t i = 0; i < n; i++) v[i] = from[i];
    store_part(to.data(), v, n);
    store(lanes, v);
    const V again = load_part(to.data(), n);
    for (size_t i = 0; i < W; i++) {
      CHECK(i >= n || to[i].bits == lanes[i].bits, "lane %zu of %zu", i, n);
      CHECK(again[i] == (i < n ? as_float(lanes[i]) : 0.0f), "lane %zu of %zu", i, n);
    }
  }
}

template <class F, class Exact>
static void compare(const char* name, F&& f, Exact&& exact) {
  double worst = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 14983) {
    const float x = of_bits(static_cast<uint32_t>(bits));
    if (!(x >= -80 && std::fabs(x) >= FLT_MIN)) continue;
    const double want = exact(static_cast<double>(x));
    const double off = std::fabs(f(all(x))[0] - want) / std::fabs(want);
    CHECK(off <= std::ldexp(1, -13), "%s(%g) is off by %g of it", name, x, off);
    worst = std::max(worst, off);
  }
  std::printf("%s: 2^%.1f\n", name, std::log2(worst));
}

static void functions() {
  using F = Functions<bf16>;
  const float inf = std::numeric_limits<float>::infinity();
  compare("sigmoid", F::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); });
  compare("tanh", F::tanh, [](double x) { return std::tanh(x); });
  CHECK(std::isnan(F::sigmoid(all(NAN))[0]) && std::isnan(F::tanh(all(NAN))[0]), "NaN is hidden");
  for (float x : {-100.0f, -1000.0f, -FLT_MAX, -inf}) {
    CHECK(F::sigmoid(all(x))[0] >= 0 && F::sigmoid(all(x))[0] < 2e-38f, "sigmoid(%g)", x);
    CHECK(std::fabs(F::tanh(all(x))[0] + 1) < 2e-4f, "tanh(%g)", x);
  }
}

static void close(float got, double want, double size, const char* what, size_t at) {
  CHECK(std::fabs(got - want) <= 1e-6 * (1 + size), "%s at %zu: %g, not %g", what, at, got, want);
}

static void product(size_t M, size_t N, size_t K, size_t begin, size_t end) {
  const Rows a(M, K), b(K, N);
  std::vector<bf16> packed(packed_columns<bf16>(K, N)), low(M * N);
  std::vector<float> c(M * N, 7.0f), whole(M * N);
  pack_columns(b[0], N + 1, K, N, packed.data());
  auto rows_of = [&](auto& out) { return [&](size_t m) { return out.data() + m * N; }; };
  auto row = [&](size_t m) { return a[m]; };
  multiply(begin, end, K, N, row, packed.data(), rows_of(c));
  multiply(size_t{0}, M, K, N, row, packed.data(), rows_of(whole));
  multiply(begin, end, K, N, row, packed.data(), rows_of(low));
  for (size_t m = 0; m < M; m++)
    for (size_t n = 0; n < N; n++) {
      const size_t at = m * N + n;
      if (m < begin || m >= end) {
        CHECK(c[at] == 7.0f, "row %zu was written", m);
        continue;
      }
      double sum = 0, size = 0;
      for (size_t k = 0; k < K; k++) {
        const double term = a.at(m, k) * b.at(k, n);
        sum += term, size += std::fabs(term);
      }
      close(c[at], sum, size, "product", at);
      CHECK(c[at] == whole[at], "%zu depends on how rows are shared out", at);
      CHECK(low[at].bits == rounded(c[at]).bits, "%zu is not what was rounded", at);
    }
}

static void sum_of_outer(size_t M, size_t N, size_t K, size_t begin, size_t end) {
  const Rows a(K, M), b(2 * K, N);
  std::vector<float> out(2 * M * N, 0.5f);
  std::vector<bf16> scratch(outer_scratch<bf16>({N, N}));
  const size_t columns[] = {N, N};
  outer_parts(
      begin, end, columns, K, [&](size_t k) { return a[k]; },
      [&](size_t part, size_t k) { return b[2 * k + part]; },
      [&](size_t part, size_t m) { return out.data() + (2 * m + part) * N; }, scratch.data());
  for (size_t row = 0; row < 2 * M; row++)
    for (size_t n = 0; n < N; n++) {
      const size_t m = row / 2, part = row % 2;
      double sum = 0.5, size = 0.5;
      for (size_t k = 0; m >= begin && m < end && k < K; k++) {
        const double term = a.at(k, m) * b.at(2 * k + part, n);
        sum += term, size += std::fabs(term);
      }
      close(out[row * N + n], sum, size, "outer", row * N + n);
    }
}

// Two parts of K columns each, of which an odd one must not be paired with the other part's.
static void gates_of(size_t H, size_t K) {
  constexpr int G = 3, PARTS = 2;
  const Rows w(G * H, PARTS * K);
  const size_t rows = packed_rows<bf16>(K);
  std::vector<bf16> packed(panels(H) * W * G * PARTS * rows);
  pack_gates(w[0], PARTS * K + 1, G, H, K, packed.data(), 1, PARTS);
  const bf16* got = packed.data();
  for (size_t u = 0; u < panels(H); u++)
    for (size_t part = 0; part < PARTS; part++)
      for (size_t k = 0; k < rows; k += 2)
        for (size_t g = 0; g < G; g++)
          for (size_t unit = u * W; unit < (u + 1) * W; unit++)
            for (size_t next = k; next < k + 2; next++, got++) {
              const bool there = unit < H && next < K;
              const uint16_t want = there ? w[g * H + unit][part * K + next].bits : 0;
              CHECK(got->bits == want, "unit %zu, gate %zu, column %zu", unit, g, next);
            }
  const Rows bias(1, H);
  std::vector<float> wide(panels(H) * W);
  pack_gates(bias[0], 1, 1, H, 1, wide.data());
  for (size_t unit = 0; unit < wide.size(); unit++)
    CHECK(wide[unit] == (unit < H ? as_float(bias[0][unit]) : 0.0f), "bias of unit %zu", unit);
}

int main() {
  rounding();
  functions();
  for (size_t M : {1, 6, 7, 31})
    for (size_t N : {1, 17, 64, 130})
      for (size_t K : {0, 1, 2, 5, 321}) {
        product(M, N, K, 0, M);
        product(M, N, K, M / 3, M - M / 4);
        sum_of_outer(M, N, K, 0, M);
        sum_of_outer(M, N, K, M / 3, M - M / 4);
      }
  sum_of_outer(300, 5, 3, 0, 300);
  for (size_t H : {3, 16, 17})
    for (size_t K : {1, 6, 7}) gates_of(H, K);
  return finish();
}
