// PR-LSTM along programs of merges: states against plain loops in double, gradients against
// differences of those, along a direction in which every input and weight moves.
//
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements.
#include "tree.h"

#include "check.h"

using namespace TR_TARGET;

namespace {

struct Program {
  size_t given, N;
  std::vector<int32_t> left, right;
  std::vector<int64_t> round_end;
  std::vector<int64_t> use_begin;
  std::vector<int32_t> uses;

  // Rounds of at most `width` merges, each of two older rows, some of them used often or never.
  Program(size_t given, size_t carried, size_t merges, size_t width)
      : given(given), N(given + carried) {
    while (left.size() < merges) {
      const size_t older = N + left.size(), round = std::min(width, merges - left.size());
      std::uniform_int_distribution<int32_t> row(0, static_cast<int32_t>(older) - 1);
      for (size_t m = 0; m < round; m++) {
        left.push_back(row(generator()));
        right.push_back(row(generator()));
      }
      round_end.push_back(static_cast<int64_t>(left.size()));
    }
    use_begin.push_back(0);
    for (size_t r = 0; r < N + merges; r++) {
      for (size_t m = 0; m < merges; m++) {
        if (left[m] == static_cast<int32_t>(r)) uses.push_back(static_cast<int32_t>(2 * m));
        if (right[m] == static_cast<int32_t>(r)) uses.push_back(static_cast<int32_t>(2 * m + 1));
      }
      use_begin.push_back(static_cast<int64_t>(uses.size()));
    }
  }
};

// Everything that is differentiated: x, carried h and c, then matrix and bias of each map.
using Inputs = std::vector<std::vector<float>>;
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

Pool exact(const Program& p, const Exact& in, size_t I, size_t H, int R) {
  Pool pool;
  for (size_t n = 0; n < p.N; n++) {
    std::vector<double> h(H), c(H);
    if (n < p.given) {
      const auto z = affine(in[3], in[4], {&in[0][n * I], &in[0][n * I] + I});
      for (size_t j = 0; j < H; j++) {
        c[j] = s(z[j]) * std::tanh(z[H + j]);
        h[j] = s(z[2 * H + j]) * std::tanh(c[j]);
      }
    } else {
      const size_t at = (n - p.given) * H;
      std::copy_n(&in[1][at], H, h.begin());
      std::copy_n(&in[2][at], H, c.begin());
    }
    pool.h.push_back(h), pool.c.push_back(c);
  }
  for (size_t m = 0; m < p.left.size(); m++) {
    const size_t l = p.left[m], r = p.right[m];
    std::vector<double> both(pool.h[l]), h(H), c(H);
    both.insert(both.end(), pool.h[r].begin(), pool.h[r].end());
    auto z = affine(in[5], in[6], both);
    for (size_t j = 0; j < H; j++) {
      c[j] = s(z[j]) * std::tanh(z[H + j]) + s(z[3 * H + j]) * pool.c[l][j] +
             s(z[4 * H + j]) * pool.c[r][j];
      h[j] = s(z[2 * H + j]) * std::tanh(c[j]);
    }
    for (int k = 0; k < R; k++) {
      z = affine(in[7 + 2 * k], in[8 + 2 * k], h);
      for (size_t j = 0; j < H; j++) {
        c[j] = s(z[j]) * std::tanh(z[H + j]) + s(z[3 * H + j]) * c[j];
        h[j] = s(z[2 * H + j]) * std::tanh(c[j]);
      }
    }
    pool.h.push_back(h), pool.c.push_back(c);
  }
  return pool;
}

float* at(std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

void check(const Program& p, size_t I, size_t H, int R, int threads, bool bias) {
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
  Inputs grad;
  for (const auto& v : in) grad.emplace_back(v.size());
  std::vector<const float*> w_refine, b_refine;
  std::vector<float*> dw_refine, db_refine;
  for (int r = 0; r < R; r++) {
    w_refine.push_back(at(in[7 + 2 * r])), b_refine.push_back(at(in[8 + 2 * r]));
    dw_refine.push_back(at(grad[7 + 2 * r])), db_refine.push_back(at(grad[8 + 2 * r]));
  }

  auto pool = [&](const std::vector<float>& given) {
    std::vector<float> v((N + M) * H, NAN);
    std::copy(given.begin(), given.end(), v.begin() + p.given * H);
    return v;
  };
  auto h = pool(in[1]), c = pool(in[2]);
  std::vector<float> leaf_gates(p.given * 3 * H), merge_gates(M * 5 * H), sides[4];
  std::vector<float> refine_gates(R * M * 4 * H), inner_h(R * M * H), inner_c(R * M * H);
  TreeCall call{};
  call.given = p.given, call.N = N, call.M = M, call.I = I, call.H = H;
  call.refinements = R, call.threads = threads, call.rounds = p.round_end.size();
  call.round_end = p.round_end.data(), call.left = p.left.data(), call.right = p.right.data();
  call.x = at(in[0]), call.w_leaf = at(in[3]), call.b_leaf = at(in[4]);
  call.w_merge = at(in[5]), call.b_merge = at(in[6]);
  call.w_refine = w_refine.data(), call.b_refine = b_refine.data();
  call.h = h.data(), call.c = c.data();
  TreeForward(call).run();
  const auto h_alone = h, c_alone = c;
  call.leaf_gates = leaf_gates.data(), call.merge_gates = merge_gates.data();
  call.refine_gates = refine_gates.data();
  call.inner_h = inner_h.data(), call.inner_c = inner_c.data();
  TreeForward(call).run();
  CHECK(h == h_alone && c == c_alone, "keeping what training needs changes the states");

  Exact in64;
  for (const auto& v : in) in64.emplace_back(v.begin(), v.end());
  const Pool want = exact(p, in64, I, H, R);
  for (size_t r = 0; r < N + M; r++)
    for (size_t j = 0; j < H; j++) {
      const double eh = h[r * H + j] - want.h[r][j], ec = c[r * H + j] - want.c[r][j];
      CHECK(std::fabs(eh) <= 1e-5 && std::fabs(ec) <= 1e-5 * (1 + std::fabs(want.c[r][j])),
            "row %zu unit %zu (H %zu): %g, %g off", r, j, H, eh, ec);
    }

  auto dh = numbers((N + M) * H), dc = numbers((N + M) * H);
  std::vector<float> dh_leaf(N * H), dc_leaf(N * H);
  for (auto& side : sides) side.resize(M * H);
  TreeBack back{};
  back.use_begin = p.use_begin.data(), back.uses = p.uses.data();
  back.dh = dh.data(), back.dc = dc.data();
  back.dh_left = at(sides[0]), back.dh_right = at(sides[1]);
  back.dc_left = at(sides[2]), back.dc_right = at(sides[3]);
  back.dx = at(grad[0]), back.dh_leaf = dh_leaf.data(), back.dc_leaf = dc_leaf.data();
  back.dw_leaf = at(grad[3]), back.db_leaf = at(grad[4]);
  back.dw_merge = at(grad[5]), back.db_merge = at(grad[6]);
  back.dw_refine = dw_refine.data(), back.db_refine = db_refine.data();
  TreeBackward(call, back).run();
  std::copy(dh_leaf.begin() + p.given * H, dh_leaf.end(), grad[1].begin());
  std::copy(dc_leaf.begin() + p.given * H, dc_leaf.end(), grad[2].begin());

  // One direction for all inputs would let a small gradient hide behind a large one.
  for (size_t moved = 0; moved < in.size(); moved++) {
    if (in[moved].empty()) continue;
    const auto direction = numbers(in[moved].size());
    double slope = 0, size = 0;
    for (size_t k = 0; k < direction.size(); k++) {
      const double term = static_cast<double>(grad[moved][k]) * direction[k];
      slope += term, size += term * term;
    }
    double loss[2];
    for (int side = 0; side < 2; side++) {
      Exact shifted = in64;
      for (size_t k = 0; k < direction.size(); k++)
        shifted[moved][k] += (side ? 1e-5 : -1e-5) * direction[k];
      const Pool then = exact(p, shifted, I, H, R);
      loss[side] = 0;
      for (size_t r = 0; r < N + M; r++)
        for (size_t j = 0; j < H; j++)
          loss[side] += dh[r * H + j] * then.h[r][j] + dc[r * H + j] * then.c[r][j];
    }
    const double difference = (loss[1] - loss[0]) / 2e-5;
    CHECK(std::fabs(slope - difference) <= 1e-4 * (1 + std::sqrt(size)),
          "gradient %zu (N %zu M %zu I %zu H %zu R %d): %g, not %g", moved, N, M, I, H, R, slope,
          difference);
  }
}

}  // namespace

int main() {
  for (int threads : {1, 2, 3})
    for (size_t H : {1, 7, 16, 33}) {
      check(Program(5, 2, 9, 1), 3, H, 1, threads, true);
      check(Program(17, 0, 40, 13), 5, H, 2, threads, false);
      check(Program(3, 4, 6, 6), 1, H, 0, threads, true);
    }
  check(Program(130, 1, 130, 130), 17, 5, 1, 2, true);
  check(Program(0, 3, 5, 2), 2, 9, 1, 2, true);
  check(Program(3, 0, 0, 1), 2, 9, 1, 2, true);
  return finish();
}
