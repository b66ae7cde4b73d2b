// What the tests in C++ share: a check that counts, numbers to compute with.
#pragma once
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

inline int failures = 0;

#define CHECK(condition, ...)                                           \
  do {                                                                  \
    if (!(condition) && ++failures <= 20) {                             \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);       \
      std::printf(__VA_ARGS__);                                         \
      std::printf("\n");                                                \
    }                                                                   \
  } while (0)

inline int finish() {
  std::printf("%d failures\n", failures);
  return failures != 0;
}

inline std::mt19937& generator() {
  static std::mt19937 draw(0);
  return draw;
}

inline std::vector<float> numbers(size_t n, float size = 1.0f) {
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> out(n);
  for (float& v : out) v = normal(generator());
  return out;
}
