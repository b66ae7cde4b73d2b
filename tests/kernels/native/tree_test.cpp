// Merging cells along programs of merges: states against plain loops in double, gradients against
// differences of those, along a direction in which every input and weight moves.
//
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements.
#include "tree_once.h"
#include "trees.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

namespace {

// Of threads that nobody could tell that memory is short.
std::atomic<int> allocations_of_workers{0};
int allocations = 0;
const std::thread::id main_thread = std::this_thread::get_id();

}  // namespace

// Inlined, they look to GCC like malloc for delete.
__attribute__((noinline)) void* operator new(size_t size) {
  std::this_thread::get_id() != main_thread ? ++allocations_of_workers : ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace {

constexpr Kind PR_LSTM{0, 3, 5, 4, 5, true}, PR_RNN{1, 1, 1, 1, 2, false};

using Exact = std::vector<std::vector<double>>;

double s(double v) { return 1 / (1 + std::exp(-v)); }

// z = W a + b with the rows of `a` one after the other.
std::vector<double> affine(const std::vector<double>& w, const std::vector<double>& b,
                           const std::vector<double>& a) {
  std::vector<double> z(w.size() / a.size());
  for (size_t g = 0; g < z.size(); g++) {
    if (!b.empty()) z[g] = b[g];
    for (size_t k = 0; k < a.size(); k++) z[g] += w[g * a.size() + k] * a[k];
  }
  return z;
}

struct Pool {
  std::vector<std::vector<double>> h, c;
};

// h and c out of pre-activations and the c that were taken up.
void new_state(const Kind& kind, const std::vector<double>& z,
               const std::vector<std::vector<double>>& before, std::vector<double>& h,
               std::vector<double>& c) {
  const size_t H = h.size();
  for (size_t j = 0; j < H; j++) {
    if (!kind.memory) {
      h[j] = before.empty() ? z[j] : std::max(z[j], 0.0);
      continue;
    }
    c[j] = s(z[j]) * std::tanh(z[H + j]);
    for (size_t k = 0; k < before.size(); k++) c[j] += s(z[(3 + k) * H + j]) * before[k][j];
    h[j] = s(z[2 * H + j]) * std::tanh(c[j]);
  }
}

Pool exact(const Kind& kind, const Program& p, const Exact& in, size_t I, size_t H, int R) {
  Pool pool;
  for (size_t n = 0; n < p.N; n++) {
    std::vector<double> h(H), c(H);
    if (n < p.given) {
      new_state(kind, affine(in[3], in[4], {&in[0][n * I], &in[0][n * I] + I}), {}, h, c);
    } else {
      const size_t at = (n - p.given) * H;
      std::copy_n(&in[1][at], H, h.begin());
      if (kind.memory) std::copy_n(&in[2][at], H, c.begin());
    }
    pool.h.push_back(h), pool.c.push_back(c);
  }
  for (size_t m = 0; m < p.left.size(); m++) {
    const size_t l = p.left[m], r = p.right[m];
    std::vector<double> both(pool.h[l]), h(H), c(H);
    both.insert(both.end(), pool.h[r].begin(), pool.h[r].end());
    new_state(kind, affine(in[5], in[6], both), {pool.c[l], pool.c[r]}, h, c);
    for (int k = 0; k < R; k++)
      new_state(kind, affine(in[7 + 2 * k], in[8 + 2 * k], h), {c}, h, c);
    pool.h.push_back(h), pool.c.push_back(c);
  }
  return pool;
}

void check(const Kind& kind, const Program& p, size_t I, size_t H, int R, bool bias) {
  const size_t N = p.N, M = p.left.size(), carried = N - p.given;
  const float scale = 1 / std::sqrt(static_cast<float>(H));
  Inputs in{numbers(p.given * I), numbers(carried * H), numbers(carried * H * kind.memory)};
  for (auto [rows, columns] : {std::pair(kind.leaf * H, I), std::pair(kind.merge * H, 2 * H)}) {
    in.push_back(numbers(rows * columns, scale));
    in.push_back(numbers(bias ? rows : 0));
  }
  for (int r = 0; r < R; r++) {
    in.push_back(numbers(kind.refine * H * H, scale));
    in.push_back(numbers(bias ? kind.refine * H : 0));
  }
  const auto dh = numbers((N + M) * H), dc = numbers((N + M) * H * kind.memory);
  auto found_by = [&](int threads) {
    return computed<float>(
        kind, p, in, dh, dc, I, H, R, threads, [](const auto& call) { tree_forward(call); },
        [](const auto& call, const auto& back) { tree_backward(call, back); });
  };
  const Found found = found_by(1);
  // The order of sums depends on no thread, so every bit is the same.
  for (int threads : {2, 3})
    CHECK(found_by(threads) == found, "%d threads (N %zu M %zu I %zu H %zu R %d)", threads, N, M,
          I, H, R);

  Exact in64;
  for (const auto& v : in) in64.emplace_back(v.begin(), v.end());
  const Pool want = exact(kind, p, in64, I, H, R);
  for (size_t r = 0; r < N + M; r++)
    for (size_t j = 0; j < H; j++)
      for (int field = 0; field <= kind.memory; field++) {
        const double right = (field ? want.c : want.h)[r][j];
        const double off = found[field][r * H + j] - right;
        CHECK(std::fabs(off) <= 1e-5 * (1 + std::fabs(right)), "row %zu unit %zu (H %zu): %g off",
              r, j, H, off);
      }

  // One direction for all inputs would let a small gradient hide behind a large one.
  for (size_t moved = 0; moved < in.size(); moved++) {
    if (in[moved].empty()) continue;
    const auto direction = numbers(in[moved].size());
    double slope = 0, size = 0;
    for (size_t k = 0; k < direction.size(); k++) {
      const double term = static_cast<double>(found[2 + moved][k]) * direction[k];
      slope += term, size += term * term;
    }
    double loss[2];
    for (int side = 0; side < 2; side++) {
      Exact shifted = in64;
      for (size_t k = 0; k < direction.size(); k++)
        shifted[moved][k] += (side ? 1e-5 : -1e-5) * direction[k];
      const Pool then = exact(kind, p, shifted, I, H, R);
      loss[side] = 0;
      for (size_t r = 0; r < N + M; r++)
        for (size_t j = 0; j < H; j++)
          loss[side] += dh[r * H + j] * then.h[r][j] +
                        (kind.memory ? dc[r * H + j] * then.c[r][j] : 0.0);
    }
    const double difference = (loss[1] - loss[0]) / 2e-5;
    CHECK(std::fabs(slope - difference) <= 1e-4 * (1 + std::sqrt(size)),
          "gradient %zu (N %zu M %zu I %zu H %zu R %d): %g, not %g", moved, N, M, I, H, R, slope,
          difference);
  }
}

// T tokens of B sequences, of which sequence b has carried `before[b]` tokens already, one by one;
// beside the states of those sequences' prefixes, whose merges are written down.
void one_by_one(const Kind& kind, std::vector<int64_t> lengths, size_t T, size_t I, size_t H,
                int R, bool bias) {
  const size_t B = lengths.size(), K = 5;
  const float scale = 1 / std::sqrt(static_cast<float>(H));
  Inputs in{numbers(B * T * I), {}, {}};
  for (auto [rows, columns] : {std::pair(kind.leaf * H, I), std::pair(kind.merge * H, 2 * H)}) {
    in.push_back(numbers(rows * columns, scale));
    in.push_back(numbers(bias ? rows : 0));
  }
  std::vector<const float*> w_refine, b_refine;
  for (int r = 0; r < R; r++) {
    in.push_back(numbers(kind.refine * H * H, scale));
    in.push_back(numbers(bias ? kind.refine * H : 0));
  }
  for (int r = 0; r < R; r++)
    w_refine.push_back(at(in[7 + 2 * r])), b_refine.push_back(at(in[8 + 2 * r]));
  // Carried blocks and folds may be any states; rows of the program behind the tokens.
  const size_t N = B * T + 2 * B * K;
  for (int field : {1, 2}) in[field] = numbers(field == 1 || kind.memory ? 2 * B * K * H : 0);
  Program p(B * T, 2 * B * K, 0, 1);
  std::vector<size_t> blocks(B * K), folds(B * K), wanted;
  for (size_t k = 0; k < B * K; k++) blocks[k] = B * T + k, folds[k] = B * T + B * K + k;
  auto merged = [&](size_t left, size_t right) {
    p.left.push_back(static_cast<int32_t>(left)), p.right.push_back(static_cast<int32_t>(right));
    return N + p.left.size() - 1;
  };
  Exact in64;
  for (const auto& v : in) in64.emplace_back(v.begin(), v.end());
  std::vector<int64_t> counts = lengths;
  for (size_t t = 0; t < T; t++)
    for (size_t b = 0; b < B; b++) {
      size_t row = b * T + t, k = 0;
      const int64_t n = counts[b]++;
      for (; n >> k & 1; k++) row = merged(blocks[b * K + k], row);
      blocks[b * K + k] = row;
      if (n >> k >> 1) row = merged(folds[b * K + k + 1], row);
      for (size_t below = 0; below <= k; below++) folds[b * K + below] = row;
      wanted.push_back(row);
    }
  const Pool want = exact(kind, p, in64, I, H, R);

  const size_t of_field = B * K * H, c = kind.memory ? of_field : 0;
  auto part = [](const std::vector<float>& v, size_t begin, size_t count) {
    return std::vector<float>(v.begin() + begin, v.begin() + begin + count);
  };
  // Blocks, then folds; h, then c.
  std::vector<float> held[] = {part(in[1], 0, of_field), part(in[2], 0, c),
                               part(in[1], of_field, of_field), part(in[2], c, c)};
  for (size_t t = 0; t < T; t++) {
    std::vector<float> x, y(B * H), next[4];
    for (size_t b = 0; b < B; b++)
      x.insert(x.end(), &in[0][(b * T + t) * I], &in[0][(b * T + t) * I] + I);
    for (int k = 0; k < 4; k++) next[k].assign(held[k].size(), NAN);
    const int before = allocations;
    tree_once({kind.number, R, B, I, H, x.data(), lengths.data(), {K, at(held[0]), at(held[1])},
               {K, at(held[2]), at(held[3])}, {K, at(next[0]), at(next[1])},
               {K, at(next[2]), at(next[3])}, y.data(), at(in[3]), at(in[4]), at(in[5]), at(in[6]),
               w_refine.data(), b_refine.data()});
    CHECK(t == 0 || allocations == before, "token %zu allocates", t);
    for (size_t b = 0; b < B; b++) {
      lengths[b]++;
      for (size_t j = 0; j < H; j++) {
        const double off = y[b * H + j] - want.h[wanted[t * B + b]][j];
        CHECK(std::fabs(off) <= 1e-5 * (1 + std::fabs(y[b * H + j])),
              "token %zu of sequence %zu (H %zu R %d): %g off", t, b, H, R, off);
      }
    }
    for (int k = 0; k < 4; k++) held[k] = next[k];
  }
}

}  // namespace

int main() {
  for (const Kind& kind : {PR_LSTM, PR_RNN}) {
    for (size_t H : {1, 7, 16, 33}) {
      check(kind, Program(5, 2, 9, 1), 3, H, 1, true);
      check(kind, Program(17, 0, 40, 13), 5, H, 2, false);
      check(kind, Program(3, 4, 6, 6), 1, H, 0, true);
    }
    one_by_one(kind, {0, 3, 7}, 9, 3, 7, 1, true);
    one_by_one(kind, {2}, 6, 17, 33, 2, false);
    one_by_one(kind, {0}, 3, 1, 16, 0, true);
    check(kind, Program(130, 1, 130, 130), 17, 5, 1, true);
    check(kind, Program(0, 3, 5, 2), 2, 9, 3, true);
    check(kind, Program(3, 0, 0, 1), 2, 9, 1, true);
    // More than one span of merges, its ends within rounds, and more units than one panel has.
    check(kind, Program(500, 0, 600, 70), 1, 3, 1, true);
    check(kind, Program(6, 0, 6, 3), 4, 130, 1, true);
  }
  CHECK(allocations_of_workers == 0, "%d", allocations_of_workers.load());
  return finish();
}
