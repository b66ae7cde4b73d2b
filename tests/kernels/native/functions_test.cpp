// exp, sigmoid, tanh against double, over all of float's range; vectors in part.
#include <cfloat>
#include <cstring>
#include <limits>

#include "check.h"
#include "vector.h"

using namespace TR_TARGET;

static float number(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// |got - exact| in units of the last place of a float as large as `exact`.
static double ulps(float got, double exact) {
  const double place = std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23);
  return std::fabs(got - exact) / place;
}

template <class F, class Exact>
static void compare(const char* name, float from, float to, double limit, F&& f, Exact&& exact) {
  double worst = 0;
  float at = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1499) {
    const float x = number(static_cast<uint32_t>(bits));
    if (!(x >= from && x <= to)) continue;
    const double e = ulps(f(all(x))[0], exact(static_cast<double>(x)));
    if (!(e <= worst)) worst = e, at = x;
  }
  std::printf("%s: %.2f units in the last place, at %g\n", name, worst, at);
  CHECK(worst <= limit, "%s(%g) is %g units off", name, at, worst);
}

int main() {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  auto one_over = [](double x) { return 1 / (1 + std::exp(-x)); };
  compare("exp", -87, 88, 2, [](V x) { return exp_bounded(x); }, [](double x) { return std::exp(x); });
  compare("sigmoid", -87, FLT_MAX, 4, [](V x) { return sigmoid(x); }, one_over);
  compare("tanh", -FLT_MAX, FLT_MAX, 4, [](V x) { return tanh(x); },
          [](double x) { return std::tanh(x); });
  // Below -87 a sigmoid is no normal number any more, and stays where it was there.
  for (float x : {-87.5f, -88.0f, -104.0f, -1000.0f, -FLT_MAX, -inf}) {
    const float s = sigmoid(all(x))[0];
    CHECK(s >= 0 && s < 2e-38f, "sigmoid(%g) = %g", x, s);
  }
  CHECK(sigmoid(all(inf))[0] == 1.0f, "%g", sigmoid(all(inf))[0]);
  CHECK(tanh(all(inf))[0] == 1.0f, "%g", tanh(all(inf))[0]);
  CHECK(tanh(all(-inf))[0] == -1.0f, "%g", tanh(all(-inf))[0]);
  CHECK(std::isnan(sigmoid(all(nan))[0]), "%g", sigmoid(all(nan))[0]);
  CHECK(std::isnan(tanh(all(nan))[0]), "%g", tanh(all(nan))[0]);
  CHECK(sigmoid(all(0.0f))[0] == 0.5f && tanh(all(0.0f))[0] == 0.0f, "at 0");
  // Each lane for itself, a NaN among them.
  V mixed = all(0.25f);
  mixed[1] = nan;
  const V s = sigmoid(mixed), t = tanh(mixed);
  for (size_t i = 0; i < W; i++) {
    CHECK(std::isnan(s[i]) == (i == 1) && std::isnan(t[i]) == (i == 1), "lane %zu", i);
    CHECK(i == 1 || s[i] == sigmoid(all(0.25f))[0], "lane %zu", i);
  }
  // Parts touch nothing beyond their end: the address sanitizer watches the exact allocations.
  for (size_t n = 1; n <= W; n++) {
    const std::vector<float> from = numbers(n);
    std::vector<float> to(n);
    const V v = load_part(from.data(), n);
    store_part(to.data(), v, n);
    CHECK(to == from, "%zu numbers", n);
    for (size_t i = n; i < W; i++) CHECK(v[i] == 0, "lane %zu of %zu", i, n);
  }
  return finish();
}
