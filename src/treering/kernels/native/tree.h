// PR-LSTM along any program of merges: rounds that run one after the other, rows side by side.
//
// States live in one pool of rows: leaves, carried rows, then the merge m at row N + m. A merge
// names the rows of its two operands, so they are read where they are.
//
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements; U panels of
// units.
#pragma once
#include <vector>

#include "gates.h"
#include "threads.h"

namespace TR_TARGET {

struct TreeCall {
  size_t given;  // leaves that are computed from x; the other rows up to N are in the pool
  size_t N, M, I, H;
  int refinements, threads;
  size_t rounds;
  const int64_t* round_end;  // (rounds) merges done after each round
  const int32_t *left, *right;  // (M) rows of the pool
  const float* x;  // (given, I)
  // Weights as the layer has them, row-major; biases may be nullptr.
  const float *w_leaf, *b_leaf, *w_merge, *b_merge;
  const float* const* w_refine;
  const float* const* b_refine;
  float *h, *c;  // the pool, (N + M, H)
  // Kept for the backward pass, or nullptr: activated gates, and the states between refinements.
  float* leaf_gates;   // (given, 3, H)
  float* merge_gates;  // (M, 5, H)
  float* refine_gates; // (R, M, 4, H)
  float *inner_h, *inner_c;  // (R, M, H): before refinement r
};

// Sizes of what training keeps are those of the gates; they become the gradients of the gates'
// pre-activations in place.
struct TreeBack {
  const int64_t* use_begin;  // (N + M + 1) into uses
  const int32_t* uses;  // merge * 2 + side, in order, for each row of the pool
  const float *dh, *dc;  // gradients that reach the pool from outside, (N + M, H), or nullptr
  float *dh_left, *dh_right;  // (M, H) each: what the merges give to their operands
  float *dc_left, *dc_right;
  float* dx;  // (given, I) or nullptr
  float *dh_leaf, *dc_leaf;  // (N, H): all that reaches the rows before the first merge
  float *dw_leaf, *db_leaf, *dw_merge, *db_merge;
  float* const* dw_refine;
  float* const* db_refine;
};

template <int G>
struct Packed {
  std::vector<float> weight, bias;
  Packed(const float* w, const float* b, size_t H, size_t K)
      : weight(panels(H) * W * G * K), bias(panels(H) * W * G) {
    pack_gates(w, K, G, H, K, weight.data());
    pack_bias(b, G, H, bias.data());
  }
};

// One panel of units of some rows: z = bias + a w (+ a2 w2), then f(row, z) with z[G] vectors.
template <int G, class A, class A2, class F>
inline void gate_panel(const Packed<G>& p, size_t u, size_t begin, size_t end, size_t K, A&& a,
                       size_t K2, A2&& a2, F&& f) {
  constexpr int MR = tile_rows(G);
  const float* weight = p.weight.data() + u * W * G * (K + K2);
  const float* bias = p.bias.data() + u * W * G;
  by_tiles<MR>(begin, end, [&](auto rows, size_t m) {
    constexpr int R = decltype(rows)::value;
    V acc[R][G];
    for (int i = 0; i < R; i++)
      for (int g = 0; g < G; g++) acc[i][g] = load(bias + g * W);
    const float* row[R];
    for (int i = 0; i < R; i++) row[i] = a(m + i);
    accumulate<R, G>(acc, row, weight, K);
    if (K2) {
      for (int i = 0; i < R; i++) row[i] = a2(m + i);
      accumulate<R, G>(acc, row, weight + K * G * W, K2);
    }
    for (int i = 0; i < R; i++) f(m + i, acc[i]);
  });
}

class TreeForward {
 public:
  explicit TreeForward(const TreeCall& call)
      : t(call),
        leaf(t.w_leaf, t.b_leaf, t.H, t.I),
        merge(t.w_merge, t.b_merge, t.H, 2 * t.H),
        barrier(t.threads) {
    for (int r = 0; r < t.refinements; r++)
      refine.emplace_back(t.w_refine[r], t.b_refine[r], t.H, t.H);
    if (!t.merge_gates && t.refinements) {
      size_t widest = 0, begin = 0;
      for (size_t k = 0; k < t.rounds; begin = t.round_end[k++])
        widest = std::max(widest, static_cast<size_t>(t.round_end[k]) - begin);
      scratch_h.resize(widest * t.H * t.refinements);
      scratch_c.resize(widest * t.H * t.refinements);
    }
  }

  void run() {
    on_threads(t.threads, [this](int thread) { work(thread); });
  }

 private:
  void work(int thread) {
    Share mine = share(t.given, thread, t.threads);
    blocks(mine.begin, mine.end, [&](size_t b, size_t e) {
      for (size_t u = 0; u < panels(t.H); u++) leaves(u, b, e);
    });
    barrier.wait();
    size_t begin = 0;
    for (size_t k = 0; k < t.rounds; k++) {
      const size_t end = t.round_end[k];
      round(thread, begin, end);
      barrier.wait();
      begin = end;
    }
  }

  // Rows of a block and one panel of the weights stay in the cache together.
  template <class F>
  static void blocks(size_t begin, size_t end, F&& f) {
    for (; begin < end; begin += 120) f(begin, std::min(end, begin + 120));
  }

  void round(int thread, size_t begin, size_t end) {
    const size_t U = panels(t.H), first = begin;
    if (end - begin >= 6u * t.threads || t.threads == 1) {
      Share mine = share(end - begin, thread, t.threads);
      blocks(begin + mine.begin, begin + mine.end, [&](size_t b, size_t e) {
        for (int r = -1; r < t.refinements; r++)
          for (size_t u = 0; u < U; u++) phase(r, u, b, e, first);
      });
      return;
    }
    // Few rows: every thread does all of them, for its own units.
    Share mine = share(U, thread, t.threads);
    for (int r = -1; r < t.refinements; r++) {
      if (r >= 0) barrier.wait();
      for (size_t u = mine.begin; u < mine.end; u++) phase(r, u, begin, end, first);
    }
  }

  void phase(int r, size_t u, size_t begin, size_t end, size_t first) {
    if (r < 0)
      merges(u, begin, end, first);
    else
      refinement(r, u, begin, end, first);
  }

  void leaves(size_t u, size_t begin, size_t end) {
    const Units units(u, t.H);
    gate_panel<3>(
        leaf, u, begin, end, t.I, [&](size_t n) { return t.x + n * t.I; }, 0,
        [](size_t) { return nullptr; },
        [&](size_t n, V(&z)[3]) {
          V i = sigmoid(z[0]), g = tanh(z[1]), o = sigmoid(z[2]);
          V c = i * g;
          units.put(t.c + n * t.H, c);
          units.put(t.h + n * t.H, o * tanh(c));
          if (t.leaf_gates) {
            float* kept = t.leaf_gates + n * 3 * t.H;
            units.put(kept, i), units.put(kept + t.H, g), units.put(kept + 2 * t.H, o);
          }
        });
  }

  // Where the state of merge m stands before refinement r; after the last one in the pool.
  float* state(int r, size_t m, size_t first, float* pool, float* kept,
               std::vector<float>& scratch) {
    if (r == t.refinements) return pool + (t.N + m) * t.H;
    if (kept) return kept + (r * t.M + m) * t.H;
    const size_t rows = scratch.size() / (t.H * t.refinements);
    return scratch.data() + (r * rows + m - first) * t.H;
  }
  float* h_at(int r, size_t m, size_t first) {
    return state(r, m, first, t.h, t.inner_h, scratch_h);
  }
  float* c_at(int r, size_t m, size_t first) {
    return state(r, m, first, t.c, t.inner_c, scratch_c);
  }

  void merges(size_t u, size_t begin, size_t end, size_t first) {
    const Units units(u, t.H);
    gate_panel<5>(
        merge, u, begin, end, t.H, [&](size_t m) { return t.h + t.left[m] * t.H; }, t.H,
        [&](size_t m) { return t.h + t.right[m] * t.H; },
        [&](size_t m, V(&z)[5]) {
          V i = sigmoid(z[0]), g = tanh(z[1]), o = sigmoid(z[2]);
          V fl = sigmoid(z[3]), fr = sigmoid(z[4]);
          V c = fl * units.get(t.c + t.left[m] * t.H) + fr * units.get(t.c + t.right[m] * t.H) +
                i * g;
          units.put(c_at(0, m, first), c);
          units.put(h_at(0, m, first), o * tanh(c));
          if (t.merge_gates) {
            float* kept = t.merge_gates + m * 5 * t.H;
            units.put(kept, i), units.put(kept + t.H, g), units.put(kept + 2 * t.H, o);
            units.put(kept + 3 * t.H, fl), units.put(kept + 4 * t.H, fr);
          }
        });
  }

  void refinement(int r, size_t u, size_t begin, size_t end, size_t first) {
    const Units units(u, t.H);
    gate_panel<4>(
        refine[r], u, begin, end, t.H, [&](size_t m) { return h_at(r, m, first); }, 0,
        [](size_t) { return nullptr; },
        [&](size_t m, V(&z)[4]) {
          V i = sigmoid(z[0]), g = tanh(z[1]), o = sigmoid(z[2]), f = sigmoid(z[3]);
          V c = f * units.get(c_at(r, m, first)) + i * g;
          units.put(c_at(r + 1, m, first), c);
          units.put(h_at(r + 1, m, first), o * tanh(c));
          if (t.refine_gates) {
            float* kept = t.refine_gates + (r * t.M + m) * 4 * t.H;
            units.put(kept, i), units.put(kept + t.H, g), units.put(kept + 2 * t.H, o);
            units.put(kept + 3 * t.H, f);
          }
        });
  }

  const TreeCall t;
  Packed<3> leaf;
  Packed<5> merge;
  std::vector<Packed<4>> refine;
  std::vector<float> scratch_h, scratch_c;
  Barrier barrier;
};


// Gradients, from what TreeForward kept. Rounds run in reverse; a row's gradient is gathered from
// the merges that used it, in their order, so that sums do not depend on the threads.
class TreeBackward {
 public:
  TreeBackward(const TreeCall& call, const TreeBack& back)
      : t(call), b(back), barrier(t.threads), scratch(t.threads) {
    const size_t H = t.H;
    merge_back.resize(packed_columns(5 * H, 2 * H));
    pack_columns(t.w_merge, 2 * H, 5 * H, 2 * H, merge_back.data());
    refine_back.resize(t.refinements);
    for (int r = 0; r < t.refinements; r++) {
      refine_back[r].resize(packed_columns(4 * H, H));
      pack_columns(t.w_refine[r], H, 4 * H, H, refine_back[r].data());
    }
    if (b.dx) {
      leaf_back.resize(packed_columns(3 * H, t.I));
      pack_columns(t.w_leaf, t.I, 3 * H, t.I, leaf_back.data());
    }
    size_t begin = 0;
    for (size_t k = 0; k < t.rounds; begin = t.round_end[k++])
      widest = std::max(widest, static_cast<size_t>(t.round_end[k]) - begin);
    dh.resize(widest * H);
    dc.resize(widest * H);
    both.resize(widest * 2 * H);
  }

  void run() {
    on_threads(t.threads, [this](int thread) { work(thread); });
  }

 private:
  void work(int thread) {
    for (size_t k = t.rounds; k-- > 0;) {
      const size_t begin = k ? t.round_end[k - 1] : 0, end = t.round_end[k];
      Share mine = share(end - begin, thread, t.threads);
      for (size_t m = begin + mine.begin; m < begin + mine.end;) {
        const size_t to = std::min(begin + mine.end, m + 120);
        rows(m, to, begin);
        m = to;
      }
      barrier.wait();
    }
    Share mine = share(t.N, thread, t.threads);
    leaves(mine.begin, mine.end);
    barrier.wait();
    weights(thread);
  }

  // All that reaches a row of the pool: from outside, then from its uses in their order.
  void gather(size_t row, float* to_h, float* to_c) const {
    const size_t H = t.H;
    for (size_t u = 0; u < panels(H); u++) {
      const Units units(u, H);
      V h = b.dh ? units.get(b.dh + row * H) : V{};
      V c = b.dc ? units.get(b.dc + row * H) : V{};
      for (int64_t k = b.use_begin[row]; k < b.use_begin[row + 1]; k++) {
        const size_t m = b.uses[k] / 2;
        const bool right = b.uses[k] % 2;
        h += units.get((right ? b.dh_right : b.dh_left) + m * H);
        c += units.get((right ? b.dc_right : b.dc_left) + m * H);
      }
      units.put(to_h, h);
      units.put(to_c, c);
    }
  }

  // Merges [begin, end) of the round that starts at `first`.
  void rows(size_t begin, size_t end, size_t first) {
    const size_t H = t.H, U = panels(H);
    for (size_t m = begin; m < end; m++)
      gather(t.N + m, dh.data() + (m - first) * H, dc.data() + (m - first) * H);
    for (int r = t.refinements; r-- > 0;) {
      for (size_t m = begin; m < end; m++) {
        float* kept = t.refine_gates + (r * t.M + m) * 4 * H;
        const float* before = t.inner_c + (r * t.M + m) * H;
        const float* after = r + 1 == t.refinements ? t.c + (t.N + m) * H
                                                    : t.inner_c + ((r + 1) * t.M + m) * H;
        float *gh = dh.data() + (m - first) * H, *gc = dc.data() + (m - first) * H;
        for (size_t u = 0; u < U; u++) {
          const Units units(u, H);
          V i = units.get(kept), g = units.get(kept + H), o = units.get(kept + 2 * H);
          V f = units.get(kept + 3 * H), read = tanh(units.get(after)), h = units.get(gh);
          V c = units.get(gc) + h * o * slope_of_tanh(read);
          units.put(kept, c * g * slope(i));
          units.put(kept + H, c * i * slope_of_tanh(g));
          units.put(kept + 2 * H, h * read * slope(o));
          units.put(kept + 3 * H, c * units.get(before) * slope(f));
          units.put(gc, c * f);
        }
      }
      multiply(
          begin, end, 4 * H, H,
          [&](size_t m) { return t.refine_gates + (r * t.M + m) * 4 * H; },
          refine_back[r].data(), [&](size_t m) { return dh.data() + (m - first) * H; });
    }
    for (size_t m = begin; m < end; m++) {
      float* kept = t.merge_gates + m * 5 * H;
      const float* after =
          t.refinements ? t.inner_c + m * H : t.c + (t.N + m) * H;
      const float *left = t.c + t.left[m] * H, *right = t.c + t.right[m] * H;
      const float *gh = dh.data() + (m - first) * H, *gc = dc.data() + (m - first) * H;
      for (size_t u = 0; u < U; u++) {
        const Units units(u, H);
        V i = units.get(kept), g = units.get(kept + H), o = units.get(kept + 2 * H);
        V fl = units.get(kept + 3 * H), fr = units.get(kept + 4 * H);
        V read = tanh(units.get(after)), h = units.get(gh);
        V c = units.get(gc) + h * o * slope_of_tanh(read);
        units.put(kept, c * g * slope(i));
        units.put(kept + H, c * i * slope_of_tanh(g));
        units.put(kept + 2 * H, h * read * slope(o));
        units.put(kept + 3 * H, c * units.get(left) * slope(fl));
        units.put(kept + 4 * H, c * units.get(right) * slope(fr));
        units.put(b.dc_left + m * H, c * fl);
        units.put(b.dc_right + m * H, c * fr);
      }
    }
    multiply(
        begin, end, 5 * H, 2 * H, [&](size_t m) { return t.merge_gates + m * 5 * H; },
        merge_back.data(), [&](size_t m) { return both.data() + (m - first) * 2 * H; });
    for (size_t m = begin; m < end; m++) {
      const float* from = both.data() + (m - first) * 2 * H;
      std::memcpy(b.dh_left + m * H, from, H * sizeof(float));
      std::memcpy(b.dh_right + m * H, from + H, H * sizeof(float));
    }
  }

  void leaves(size_t begin, size_t end) {
    const size_t H = t.H;
    for (size_t n = begin; n < end; n++) gather(n, b.dh_leaf + n * H, b.dc_leaf + n * H);
    end = std::min(end, t.given);
    for (size_t n = begin; n < end; n++) {
      float* kept = t.leaf_gates + n * 3 * H;
      for (size_t u = 0; u < panels(H); u++) {
        const Units units(u, H);
        V i = units.get(kept), g = units.get(kept + H), o = units.get(kept + 2 * H);
        V read = tanh(units.get(t.c + n * H)), h = units.get(b.dh_leaf + n * H);
        V c = units.get(b.dc_leaf + n * H) + h * o * slope_of_tanh(read);
        units.put(kept, c * g * slope(i));
        units.put(kept + H, c * i * slope_of_tanh(g));
        units.put(kept + 2 * H, h * read * slope(o));
      }
    }
    if (b.dx && begin < end)
      multiply(
          begin, end, 3 * H, t.I, [&](size_t n) { return t.leaf_gates + n * 3 * H; },
          leaf_back.data(), [&](size_t n) { return b.dx + n * t.I; });
  }

  // dw += dz^T a and db += sum dz for this thread's rows of dw.
  template <class Z, class A>
  void one_weight(int thread, size_t G, size_t K, size_t count, Z&& z, A&& a, float* dw,
                  float* db) {
    Share mine = share(G, thread, t.threads);
    if (dw) outer(mine.begin, mine.end, K, count, z, a, dw, K, scratch[thread]);
    if (!db) return;
    // In double: terms of both signs, as many as merges, cancel to a small rest.
    std::vector<double> sums(mine.end - mine.begin, 0.0);
    for (size_t k = 0; k < count; k++) {
      const float* from = z(k) + mine.begin;
      for (size_t g = 0; g < sums.size(); g++) sums[g] += from[g];
    }
    for (size_t g = 0; g < sums.size(); g++) db[mine.begin + g] = static_cast<float>(sums[g]);
  }

  void weights(int thread) {
    const size_t H = t.H;
    auto z = [&](size_t m) { return t.merge_gates + m * 5 * H; };
    // The two halves of the columns meet different operands.
    Share mine = share(5 * H, thread, t.threads);
    if (b.dw_merge) {
      outer(mine.begin, mine.end, H, t.M, z, [&](size_t m) { return t.h + t.left[m] * H; },
            b.dw_merge, 2 * H, scratch[thread]);
      outer(mine.begin, mine.end, H, t.M, z, [&](size_t m) { return t.h + t.right[m] * H; },
            b.dw_merge + H, 2 * H, scratch[thread]);
    }
    one_weight(thread, 5 * H, 2 * H, t.M, z, z, nullptr, b.db_merge);
    for (int r = 0; r < t.refinements; r++)
      one_weight(
          thread, 4 * H, H, t.M, [&](size_t m) { return t.refine_gates + (r * t.M + m) * 4 * H; },
          [&](size_t m) { return t.inner_h + (r * t.M + m) * H; }, b.dw_refine[r],
          b.db_refine[r]);
    one_weight(
          thread, 3 * H, t.I, t.given, [&](size_t n) { return t.leaf_gates + n * 3 * H; },
          [&](size_t n) { return t.x + n * t.I; }, b.dw_leaf, b.db_leaf);
  }

  const TreeCall t;
  const TreeBack b;
  std::vector<float> merge_back, leaf_back, dh, dc, both;
  std::vector<std::vector<float>> refine_back;
  size_t widest = 0;
  Barrier barrier;
  std::vector<std::vector<float>> scratch;
};

}  // namespace TR_TARGET
