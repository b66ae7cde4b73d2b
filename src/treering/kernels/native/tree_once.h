// One token onto what a balanced tree carries.
//
// After n tokens there is a block of 2^k of them for each bit k of n, and the fold k of all blocks
// from k on. A token is a block of one; while there is one of its size, both become the next.
//
// Legend: B batch, K blocks that there is room for, I input, H hidden.
#pragma once
#include "rows.h"
#include "tree.h"

namespace TR_TARGET {

// h and c, (B, K, H); c is nullptr in cells without memory.
struct TreeCarried {
  size_t K;
  const float *h, *c;
};

struct TreeCarriedOn {
  size_t K;
  float *h, *c;
};

struct TreeOnceCall {
  int kind, refinements;
  size_t B, I, H;
  const float* x;         // (B, I)
  const int64_t* length;  // (B) tokens before this one, for whose blocks and one more there is room
  TreeCarried blocks, folds;
  TreeCarriedOn new_blocks, new_folds;
  float* y;  // (B, H)
  // Weights as the layer has them, row-major; biases may be nullptr.
  const float *w_leaf, *b_leaf, *w_merge, *b_merge;
  const float* const* w_refine;
  const float* const* b_refine;
};

template <class C>
class TreeOnce {
 public:
  explicit TreeOnce(const TreeOnceCall& call) : t(call), H(call.H) {
    // Of this thread, so that the next token finds the room it needs.
    static thread_local std::vector<float> room;
    room.resize(6 * H);
    for (size_t k = 0; k < 3; k++) states[k] = {&room[2 * k * H], &room[(2 * k + 1) * H]};
  }

  void run() {
    for (size_t b = 0; b < t.B; b++) row(b);
  }

 private:
  // A state to read.
  struct Known {
    const float *h, *c;
  };

  void row(size_t b) {
    carry_on(t.blocks, t.new_blocks, b);
    carry_on(t.folds, t.new_folds, b);
    const uint64_t n = t.length[b];
    int here = 0;
    map<0>(t.w_leaf, t.b_leaf, t.I, {t.x + b * t.I}, {}, states[here]);
    size_t k = 0;
    for (; n >> k & 1; k++) {
      here = merge(known(t.blocks, b, k), here);
      write(t.new_blocks, b, k, nullptr);
    }
    const TreeState<float> block = states[here];
    write(t.new_blocks, b, k, &block);
    if (n >> k >> 1) here = merge(known(t.folds, b, k + 1), here);
    const TreeState<float> fold = states[here];
    for (size_t below = 0; below <= k; below++) write(t.new_folds, b, below, &fold);
    std::copy_n(fold.h, H, t.y + b * H);
  }

  // The place of left merged with the state at `right`.
  int merge(const Known& left, int right) {
    int to = (right + 1) % 3, other = (right + 2) % 3;
    const TreeState<float> r = states[right];
    map<2>(t.w_merge, t.b_merge, H, {left.h, r.h}, {left.c, r.c}, states[to]);
    for (int k = 0; k < t.refinements; k++) {
      const TreeState<float> from = states[to];
      map<1>(t.w_refine[k], t.b_refine[k], H, {from.h}, {from.c}, states[other]);
      std::swap(to, other);
    }
    return to;
  }

  // The map that takes up P states, or K numbers of the input.
  template <int P>
  void map(const float* w, const float* bias, size_t K, const float* const (&h)[std::max(1, P)],
           const float* const (&c)[2], const TreeState<float>& to) const {
    constexpr int G = C::gates(P), PARTS = std::max(1, P);
    const TreeRow<float> row{{c[0], c[1]}, to.h, to.c, nullptr};
    for (size_t u = 0; u < panels(H); u++) {
      const Units units(u, H);
      alignas(64) float z[G * W];
      for (int g = 0; g < G; g++) {
        RowSums sums;
        for (int part = 0; part < PARTS; part++)
          sums.add(w + (g * H + units.at) * PARTS * K + part * K, PARTS * K, units.count, h[part],
                   K);
        const V pre = sums.across(units.count);
        store(z + g * W, bias ? pre + units.get(bias + g * H) : pre);
      }
      C::template forward<P>(units, H, row, z);
    }
  }

  Known known(const TreeCarried& from, size_t b, size_t k) const {
    const size_t at = (b * from.K + k) * H;
    return {from.h + at, C::MEMORY ? from.c + at : nullptr};
  }

  // All blocks of a row as they were, and no more where there was no room for them.
  void carry_on(const TreeCarried& from, const TreeCarriedOn& to, size_t b) const {
    auto copy = [&](const float* old, float* field) {
      const size_t before = std::min(from.K, to.K) * H;
      std::copy_n(old + b * from.K * H, before, field + b * to.K * H);
      std::fill_n(field + b * to.K * H + before, to.K * H - before, 0.0f);
    };
    copy(from.h, to.h);
    if (C::MEMORY) copy(from.c, to.c);
  }

  void write(const TreeCarriedOn& to, size_t b, size_t k, const TreeState<float>* state) const {
    auto put = [&](float* field, const float* from) {
      float* out = field + (b * to.K + k) * H;
      from ? std::copy_n(from, H, out) : std::fill_n(out, H, 0.0f);
    };
    put(to.h, state ? state->h : nullptr);
    if (C::MEMORY) put(to.c, state ? state->c : nullptr);
  }

  const TreeOnceCall& t;
  const size_t H;
  TreeState<float> states[3];
};

inline void tree_once(const TreeOnceCall& call) {
  with_merging_cell(call.kind, [&](auto cell) { TreeOnce<decltype(cell)>(call).run(); });
}

}  // namespace TR_TARGET
