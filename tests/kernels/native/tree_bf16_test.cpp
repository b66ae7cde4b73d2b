// PR-LSTM on bfloat16 numbers along programs of merges, against the same in float on the same
// rounded inputs.
//
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements.
#include "gemm_bf16.h"

namespace TR_TARGET {
inline bf16 converted(float number, bf16) {
  bf16 lanes[W];
  store(lanes, all(number));
  return lanes[0];
}
}  // namespace TR_TARGET

#include "trees.h"

namespace {

void check(const Program& p, size_t I, size_t H, int R, bool bias) {
  const size_t N = p.N, M = p.left.size(), carried = N - p.given;
  const float scale = 1 / std::sqrt(static_cast<float>(H));
  Inputs in{numbers(p.given * I), numbers(carried * H), numbers(carried * H)};
  for (auto [rows, columns] : {std::pair(3 * H, I), std::pair(5 * H, 2 * H)}) {
    in.push_back(numbers(rows * columns, scale));
    in.push_back(numbers(bias ? rows : 0));
  }
  for (int r = 0; r < R; r++) {
    in.push_back(numbers(4 * H * H, scale));
    in.push_back(numbers(bias ? 4 * H : 0));
  }
  for (auto& v : in) v = as_floats(numbers_of(v, bf16{}));
  const auto dh = as_floats(numbers_of(numbers((N + M) * H), bf16{})), dc = numbers((N + M) * H);
  auto found_in = [&](auto number, int threads) {
    using E = decltype(number);
    const Kind kind{0, 3, 5, 4, tree_slot<PRLSTMTree, E>(), true};
    return computed<E>(
        kind, p, in, dh, dc, I, H, R, threads,
        [](const auto& call) { TreeForward<PRLSTMTree, E>(call).run(); },
        [](const auto& call, const auto& back) { TreeBackward<PRLSTMTree, E>(call, back).run(); });
  };
  const Found found = found_in(bf16{}, 1);
  for (int threads : {2, 3})
    CHECK(found_in(bf16{}, threads) == found, "%d threads (N %zu M %zu I %zu H %zu R %d)", threads,
          N, M, I, H, R);
  const Found want = found_in(0.0f, 1);
  // Roundings along the way, which in these programs is as long as there are rounds.
  const double unit = std::ldexp(1, -8) * (1 + R) * (1 + std::sqrt(p.round_end.size()));
  for (size_t t = 0; t < want.size(); t++) {
    double largest = 0, off = 0;
    for (size_t k = 0; k < want[t].size(); k++) {
      largest = std::max(largest, std::fabs(static_cast<double>(want[t][k])));
      const double apart = std::fabs(static_cast<double>(found[t][k]) - want[t][k]);
      if (!(apart <= off)) off = apart;
    }
    CHECK(off <= 3 * unit * largest, "tensor %zu (N %zu M %zu I %zu H %zu R %d): %g of %g off", t,
          N, M, I, H, R, off, largest);
  }
}

}  // namespace

int main() {
  for (size_t H : {1, 7, 16, 33}) {
    check(Program(5, 2, 9, 1), 3, H, 1, true);
    check(Program(17, 0, 40, 13), 5, H, 2, false);
    check(Program(3, 4, 6, 6), 1, H, 0, true);
  }
  check(Program(130, 1, 130, 130), 17, 5, 1, true);
  check(Program(0, 3, 5, 2), 2, 9, 1, true);
  check(Program(3, 0, 0, 1), 2, 9, 1, true);
  return finish();
}
