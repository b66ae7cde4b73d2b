// What the tests of trees share: programs of merges, and one run forwards and backwards.
//
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements.
#pragma once
#include <algorithm>

#include "check.h"
#include "tree.h"

using namespace TR_TARGET;

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

struct Kind {
  int number;
  size_t leaf, merge, refine, slot;  // blocks of H rows
  bool memory;
};

template <class E>
E* at(std::vector<E>& v) {
  return v.empty() ? nullptr : v.data();
}

inline float converted(float number, float) { return number; }

template <class E>
std::vector<E> numbers_of(const std::vector<float>& from, E like) {
  std::vector<E> to;
  for (float number : from) to.push_back(converted(number, like));
  return to;
}
template <class E>
std::vector<float> as_floats(const std::vector<E>& from) {
  std::vector<float> to;
  for (E number : from) to.push_back(as_float(number));
  return to;
}

// What a run computes: the pool, then the gradients in the order of the inputs.
using Found = std::vector<std::vector<float>>;

// With h and what is multiplied in numbers of type E; forward(call) and backward(call, back).
template <class E, class F, class B>
Found computed(const Kind& kind, const Program& p, const Inputs& given,
               const std::vector<float>& dh_given, const std::vector<float>& dc, size_t I,
               size_t H, int R, int threads, F&& forward, B&& backward) {
  const size_t N = p.N, M = p.left.size();
  Inputs grad;
  for (const auto& v : given) grad.emplace_back(v.size());
  std::vector<std::vector<E>> in;
  for (const auto& v : given) in.push_back(numbers_of(v, E{}));
  const auto dh = numbers_of(dh_given, E{});
  std::vector<E> dx(in[0].size()), dh_carried(in[1].size());
  std::vector<const E*> w_refine, b_refine;
  std::vector<float*> dw_refine, db_refine;
  for (int r = 0; r < R; r++) {
    w_refine.push_back(at(in[7 + 2 * r])), b_refine.push_back(at(in[8 + 2 * r]));
    dw_refine.push_back(at(grad[7 + 2 * r])), db_refine.push_back(at(grad[8 + 2 * r]));
  }
  std::vector<E> h((N + M) * H, converted(NAN, E{}));
  std::copy(in[1].begin(), in[1].end(), h.begin() + p.given * H);
  std::vector<float> c(kind.memory ? (N + M) * H : 0, NAN);
  std::copy(given[2].begin(), given[2].end(), c.begin() + (c.empty() ? 0 : p.given * H));
  TreeCall<E> call{};
  call.given = p.given, call.N = N, call.M = M, call.I = I, call.H = H;
  call.kind = kind.number, call.refinements = R, call.threads = threads;
  call.rounds = p.round_end.size(), call.round_end = p.round_end.data();
  call.left = p.left.data(), call.right = p.right.data();
  call.x = at(in[0]), call.w_leaf = at(in[3]), call.b_leaf = at(in[4]);
  call.w_merge = at(in[5]), call.b_merge = at(in[6]);
  call.w_refine = w_refine.data(), call.b_refine = b_refine.data();
  call.h = at(h), call.c = at(c);
  forward(call);
  const auto h_alone = as_floats(h), c_alone = c;
  std::vector<E> slots(M * kind.slot * H, converted(NAN, E{}));
  call.slots = at(slots);
  const int64_t rows_wanted[] = {static_cast<int64_t>(N + M) - 1, -1, 0};
  std::vector<E> h_wanted(3 * H, converted(NAN, E{}));
  std::vector<float> c_wanted(kind.memory ? 3 * H : 0, NAN);
  const TreeWanted<E> wanted{3, rows_wanted, at(h_wanted), at(c_wanted)};
  call.parts = 1, call.wanted = &wanted;
  forward(call);
  for (size_t k = 0; k < 3; k++)
    for (size_t j = 0; j < H; j++) {
      const size_t from = rows_wanted[k] * H + j;
      CHECK(as_float(h_wanted[k * H + j]) == (k == 1 ? 0.0f : as_float(h[from])), "copy %zu", k);
      CHECK(!kind.memory || c_wanted[k * H + j] == (k == 1 ? 0.0f : c[from]), "copy %zu of c", k);
    }
  CHECK(as_floats(h) == h_alone && c == c_alone, "keeping what training needs changes the states");

  // Gradients of the first rows of the pool come from one source, the others from a second one.
  const size_t rows = N + M, cut = rows / 2;
  std::vector<int64_t> begins[2];
  std::vector<int32_t> places[2];
  for (size_t r = 0; r <= rows; r++) {
    begins[0].push_back(static_cast<int64_t>(std::min(r, cut)));
    begins[1].push_back(static_cast<int64_t>(r - std::min(r, cut)));
    if (r < rows) places[r >= cut].push_back(static_cast<int32_t>(r < cut ? r : rows - 1 - r));
  }
  std::vector<E> turned_h;
  std::vector<float> turned_c;
  for (size_t r = rows; r-- > cut;) {
    turned_h.insert(turned_h.end(), dh.begin() + r * H, dh.begin() + (r + 1) * H);
    if (kind.memory) turned_c.insert(turned_c.end(), dc.begin() + r * H, dc.begin() + (r + 1) * H);
  }
  const TreeSource<E> sources[] = {
      {begins[0].data(), places[0].data(), dh.data(), kind.memory ? dc.data() : nullptr},
      {begins[1].data(), places[1].data(), at(turned_h), at(turned_c)}};
  TreeBack<E> back{};
  back.use_begin = p.use_begin.data(), back.uses = p.uses.data();
  back.sources = 2, back.source = sources;
  back.dx = at(dx), back.dh_carried = at(dh_carried), back.dc_carried = at(grad[2]);
  back.dw_leaf = at(grad[3]), back.db_leaf = at(grad[4]);
  back.dw_merge = at(grad[5]), back.db_merge = at(grad[6]);
  back.dw_refine = dw_refine.data(), back.db_refine = db_refine.data();
  backward(call, back);
  grad[0] = as_floats(dx), grad[1] = as_floats(dh_carried);
  Found found{as_floats(h), c};
  found.insert(found.end(), grad.begin(), grad.end());
  return found;
}
