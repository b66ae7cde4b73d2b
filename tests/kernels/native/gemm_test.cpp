// Packed products against plain loops in double, at sizes around each tile's and panel's edge.
#include "gemm.h"

#include "check.h"

using namespace TR_TARGET;

static void close(float got, double want, double size, const char* what, size_t at) {
  CHECK(std::fabs(got - want) <= 1e-6 * (1 + size), "%s at %zu: %g, not %g", what, at, got, want);
}

static void product(size_t M, size_t N, size_t K, size_t begin, size_t end) {
  const size_t stride = N + 3;
  const auto a = numbers(M * K), b = numbers(K * stride);
  std::vector<float> packed(packed_columns(K, N)), c(M * N, 7.0f);
  pack_columns(b.data(), stride, K, N, packed.data());
  multiply(
      begin, end, K, N, [&](size_t m) { return a.data() + m * K; }, packed.data(),
      [&](size_t m) { return c.data() + m * N; });
  for (size_t m = 0; m < M; m++)
    for (size_t n = 0; n < N; n++) {
      double sum = 0, size = 0;
      for (size_t k = 0; k < K; k++) {
        const double term = static_cast<double>(a[m * K + k]) * b[k * stride + n];
        sum += term, size += std::fabs(term);
      }
      if (m >= begin && m < end)
        close(c[m * N + n], sum, size, "product", m * N + n);
      else
        CHECK(c[m * N + n] == 7.0f, "row %zu was written", m);
    }
}

static void sum_of_outer(size_t M, size_t N, size_t K, size_t begin, size_t end) {
  const size_t stride = N + 2;
  const auto a = numbers(K * M), b = numbers(K * N);
  std::vector<float> out((M - 1) * stride + N, 0.5f), scratch(outer_scratch({N}));
  const size_t columns[] = {N};
  outer_parts(
      begin, end, columns, K, [&](size_t k) { return a.data() + k * M; },
      [&](size_t, size_t k) { return b.data() + k * N; },
      [&](size_t, size_t m) { return out.data() + m * stride; }, scratch.data());
  for (size_t m = 0; m < M; m++)
    for (size_t n = 0; n < N; n++) {
      double sum = 0.5, size = 0.5;
      for (size_t k = 0; m >= begin && m < end && k < K; k++) {
        const double term = static_cast<double>(a[k * M + m]) * b[k * N + n];
        sum += term, size += std::fabs(term);
      }
      close(out[m * stride + n], sum, size, "outer", m * N + n);
    }
  for (size_t m = 0; m + 1 < M; m++)
    for (size_t n = N; n < stride; n++) CHECK(out[m * stride + n] == 0.5f, "beyond row %zu", m);
}

// Each with columns of its own, and every third row of the second one wanted by nobody.
static void two_parts(size_t M, size_t N, size_t K) {
  const size_t columns[] = {N, N / 2 + 3};
  const auto a = numbers(K * M);
  const std::vector<float> b[] = {numbers(K * columns[0]), numbers(K * columns[1])};
  std::vector<float> both[] = {std::vector<float>(M * columns[0]),
                               std::vector<float>(M * columns[1])};
  std::vector<float> scratch(outer_scratch({columns[0], columns[1]}));
  auto row = [&](size_t k) { return a.data() + k * M; };
  outer_parts(
      0, M, columns, K, row,
      [&](size_t part, size_t k) { return b[part].data() + k * columns[part]; },
      [&](size_t part, size_t m) {
        return part && m % 3 == 0 ? nullptr : both[part].data() + m * columns[part];
      },
      scratch.data());
  for (size_t part = 0; part < 2; part++) {
    std::vector<float> one(M * columns[part]);
    const size_t alone[] = {columns[part]};
    outer_parts(
        0, M, alone, K, row, [&](size_t, size_t k) { return b[part].data() + k * alone[0]; },
        [&](size_t, size_t m) { return one.data() + m * alone[0]; }, scratch.data());
    for (size_t i = 0; i < one.size(); i++) {
      const float expected = part && i / alone[0] % 3 == 0 ? 0.0f : one[i];
      CHECK(both[part][i] == expected, "part %zu differs at %zu", part, i);
    }
  }
}

static void gates_of(size_t H, size_t K, int vectors) {
  constexpr int G = 3;
  const size_t stride = K + 1, wide = vectors * W, padded = (H + wide - 1) / wide * wide;
  const auto w = numbers(G * H * stride);
  std::vector<float> packed(padded * G * K, NAN);
  pack_gates(w.data(), stride, G, H, K, packed.data(), vectors);
  for (size_t u = 0; u < padded; u++)
    for (int g = 0; g < G; g++)
      for (size_t k = 0; k < K; k++) {
        const size_t vector = u / W % vectors * G + g;
        const float got = packed[((u / wide * K + k) * vectors * G + vector) * W + u % W];
        CHECK(got == (u < H ? w[(g * H + u) * stride + k] : 0.0f), "unit %zu, gate %d", u, g);
      }
  const float* none = nullptr;
  pack_gates(none, stride, G, H, K, packed.data(), vectors);
  for (float v : packed) CHECK(v == 0.0f, "no matrix is not 0");
}

int main() {
  for (size_t M : {1, 2, 5, 7, 13, 63})
    for (size_t N : {1, 3, 4, 17, 63, 64, 130})
      for (size_t K : {0, 1, 5, 257}) {
        product(M, N, K, 0, M);
        product(M, N, K, M / 3, M - M / 4);
        sum_of_outer(M, N, K, 0, M);
        sum_of_outer(M, N, K, M / 3, M - M / 4);
      }
  sum_of_outer(9, 5, 513, 0, 9);
  two_parts(7, 65, 300);
  for (size_t H : {1, 3, 4, 15, 16, 17, 33})
    for (size_t K : {1, 7})
      for (int vectors : {1, 4}) gates_of(H, K, vectors);
  // Blocks are as equal as possible and leave nothing out.
  for (size_t n = 0; n < 40; n++) {
    size_t next = 5;
    by_tiles<7>(5, 5 + n, [&](auto rows, size_t first) {
      CHECK(first == next, "block at %zu of %zu", first, n);
      next += decltype(rows)::value;
    });
    CHECK(next == 5 + n, "%zu of %zu rows", next - 5, n);
  }
  return finish();
}
