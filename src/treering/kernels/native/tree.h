// A merging cell along any program of merges: rounds that run one after the other, rows side by
// side.
//
// States live in one pool of rows: leaves, carried rows, then the merge m at row N + m. A merge
// names the rows of its two operands, so they are read where they are.
//
// Training keeps the pool and a slot for each merge. Backwards, what else is needed is computed
// again for a span of merges at a time, and a slot takes up what its merge gives to its operands.
//
// Threads share the rows of a round and then wait for each other at its end alone, or, where rows
// are few, its units. Sums are taken in an order that depends on neither.
//
// x, the weights, h and what is kept of gates are numbers of type E, everything else is float.
//
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements, G gates.
#pragma once
#include <algorithm>
#include <vector>

#include "pages.h"
#include "threads.h"
#include "tree_cells.h"

namespace TR_TARGET {

// Rows of the pool that are asked for, -1 for a row of zeros, and where copies of them go.
template <class E>
struct TreeWanted {
  size_t count;
  const int64_t* rows;  // (count)
  E* h;                 // (count, H)
  float* c;
};

template <class E>
struct TreeCall {
  size_t given;  // leaves that are computed from x; the other rows up to N are in the pool
  size_t N, M, I, H;
  int kind, refinements, threads;
  size_t rounds;
  const int64_t* round_end;  // (rounds) merges done after each round
  const int32_t *left, *right;  // (M) rows of the pool
  const E* x;  // (given, I)
  // Weights as the layer has them, row-major; biases may be nullptr.
  const E *w_leaf, *b_leaf, *w_merge, *b_merge;
  const E* const* w_refine;
  const E* const* b_refine;
  E* h;  // the pool, (N + M, H)
  float* c;
  E* slots;  // (M, tree_slot, H) for the backward pass, or nullptr
  size_t parts;
  const TreeWanted<E>* wanted;  // (parts)
};

// Gradients that reach the pool from outside: of rows that were copied from it.
template <class E>
struct TreeSource {
  const int64_t* begin;   // (N + M + 1) into places
  const int32_t* places;  // of the copies, in order, for each row of the pool
  const E* dh;            // (copies, H) or nullptr
  const float* dc;
};

template <class E>
struct TreeBack {
  const int64_t* use_begin;  // (N + M + 1) into uses
  const int32_t* uses;  // merge * 2 + side, in order, for each row of the pool
  size_t sources;
  const TreeSource<E>* source;
  E* dx;          // (given, I) or nullptr
  E* dh_carried;  // (N - given, H)
  float* dc_carried;
  // Each may be nullptr.
  float *dw_leaf, *db_leaf, *dw_merge, *db_merge;
  float* const* dw_refine;
  float* const* db_refine;
};

// Blocks of H numbers of a merge's slot: what is kept, then the gradients of h_left, h_right,
// c_left and c_right.
template <class C, class E>
constexpr size_t tree_slot() {
  return std::max<size_t>(C::KEPT, C::MEMORY ? 2 + 2 * sizeof(float) / sizeof(E) : 2);
}

// Rows of a block and one panel of the weights stay in the second cache together.
constexpr size_t BLOCK = 120;
// Below so many rows for each thread, threads share the units.
constexpr size_t FEW = 6;

template <class F>
inline void by_blocks(size_t begin, size_t end, F&& f) {
  for (; begin < end; begin += BLOCK) f(begin, std::min(end, begin + BLOCK));
}

// The map that takes up P states: its packed weights, and what becomes of their products.
template <class C, int P, class E>
class TreeMap {
 public:
  static constexpr int G = C::gates(P);

  // K columns for each operand.
  TreeMap(const E* w, const E* b, size_t K, size_t H)
      : K(K), H(H), weight(panels() * PARTS * packed_rows<E>(K) * NV * W), bias(panels() * NV * W) {
    pack_gates(w, PARTS * K, G, H, K, weight.data(), C::UV, PARTS);
    pack_gates(b, 1, G, H, 1, bias.data(), C::UV);
  }

  size_t panels() const { return (TR_TARGET::panels(H) + C::UV - 1) / C::UV; }

  // Rows [begin, end), these panels: operand(part, m) is what row m multiplies, row(m) where its
  // results go.
  template <class A, class Row>
  void run(Share these, size_t begin, size_t end, A&& operand, Row&& row) const {
    for (size_t p = these.begin; p < these.end; p++)
      by_tiles_of<NV, PARTS>(
          begin, end, operand, weight.data() + p * PARTS * packed_rows<E>(K) * NV * W, K,
          bias.data() + p * NV * W,
          [&](size_t m, size_t rows, const float* z) { finish(p, m, rows, z, row); });
  }

 private:
  static constexpr int NV = G * C::UV, PARTS = std::max(1, P);

  template <class Row>
  __attribute__((noinline, flatten)) void finish(size_t p, size_t m, size_t rows, const float* z,
                                                 Row& row) const {
    for (int v = 0; v < C::UV; v++) {
      if ((p * C::UV + v) * W >= H) break;
      const Units units(p * C::UV + v, H);
      for (size_t i = 0; i < rows; i++)
        C::template forward<P>(units, H, row(m + i), z + (i * NV + v * G) * W);
    }
  }

  const size_t K, H;
  std::vector<E> weight;
  std::vector<float> bias;
};

// One state, or its gradient.
template <class E>
struct TreeState {
  E* h;
  float* c;
};

template <class C, class E>
class TreePool {
 public:
  explicit TreePool(const TreeCall<E>& call) : t(call) {}

  TreeState<E> state(size_t row) const {
    return {t.h + row * t.H, C::MEMORY ? t.c + row * t.H : nullptr};
  }
  E* slot(size_t m) const { return t.slots ? t.slots + m * tree_slot<C, E>() * t.H : nullptr; }
  const E* operand(int side, size_t m) const {
    return t.h + (side ? t.right : t.left)[m] * t.H;
  }
  const float* operand_c(int side, size_t m) const {
    return C::MEMORY ? t.c + (side ? t.right : t.left)[m] * t.H : nullptr;
  }
  // What a merge gives to an operand, when its slot has taken it up.
  TreeState<E> given(int side, size_t m) const {
    E* h = slot(m);
    float* c = reinterpret_cast<float*>(h + 2 * t.H);
    return {h + side * t.H, C::MEMORY ? c + side * t.H : nullptr};
  }

  const TreeCall<E>& t;
};

// Rows of states that lie somewhere else.
template <class E>
class TreeStates {
 public:
  TreeStates(size_t rows, size_t H, bool memory) : H(H), h(rows * H), c(memory ? rows * H : 0) {}
  TreeState<E> operator[](size_t row) {
    return {h.data() + row * H, c.empty() ? nullptr : c.data() + row * H};
  }

 private:
  size_t H;
  std::vector<E> h;
  std::vector<float> c;
};

template <class C, class E>
class TreeForward {
 public:
  explicit TreeForward(const TreeCall<E>& call)
      : pool(call),
        t(call),
        leaf(t.w_leaf, t.b_leaf, t.I, t.H),
        merge(t.w_merge, t.b_merge, t.H, t.H),
        barrier(t.threads) {
    for (int r = 0; r < t.refinements; r++)
      refine.emplace_back(t.w_refine[r], t.b_refine[r], t.H, t.H);
    for (int r = 0; r < std::min(t.refinements, 2); r++)
      inner.emplace_back(BLOCK * t.threads, t.H, C::MEMORY);
    large_pages(t.h, (t.N + t.M) * t.H);
    if (C::MEMORY) large_pages(t.c, (t.N + t.M) * t.H);
    if (t.slots) large_pages(t.slots, t.M * tree_slot<C, E>() * t.H);
  }

  void run() {
    on_threads(t.threads, [this](int thread) { work(thread); });
  }

 private:
  void work(int thread) {
    const Share mine = share(t.given, thread, t.threads);
    by_blocks(mine.begin, mine.end, [&](size_t begin, size_t end) {
      leaf.run(
          {0, leaf.panels()}, begin, end, [&](int, size_t n) { return t.x + n * t.I; },
          [&](size_t n) {
            const TreeState<E> to = pool.state(n);
            return TreeRow<E>{{}, to.h, to.c, nullptr};
          });
    });
    barrier.wait();
    size_t begin = 0;
    for (size_t k = 0; k < t.rounds; k++) {
      const size_t end = t.round_end[k];
      round(thread, begin, end);
      barrier.wait();
      begin = end;
    }
    for (size_t part = 0; part < t.parts; part++) copy(t.wanted[part], thread);
  }

  void copy(const TreeWanted<E>& wanted, int thread) const {
    const Share mine = share(wanted.count, thread, t.threads);
    auto put = [&](auto* out, const auto* from, size_t k) {
      const int64_t row = wanted.rows[k];
      row < 0 ? std::fill_n(out + k * t.H, t.H, std::decay_t<decltype(*out)>{})
              : std::copy_n(from + row * t.H, t.H, out + k * t.H);
    };
    for (size_t k = mine.begin; k < mine.end; k++) {
      put(wanted.h, t.h, k);
      if (C::MEMORY) put(wanted.c, t.c, k);
    }
  }

  void round(int thread, size_t begin, size_t end) {
    if (end - begin >= FEW * t.threads || t.threads == 1) {
      const Share mine = share(end - begin, thread, t.threads);
      by_blocks(begin + mine.begin, begin + mine.end, [&](size_t b, size_t e) {
        merges(b, e, {0, merge.panels()}, thread * BLOCK, [] {});
      });
    } else {
      merges(begin, end, share(merge.panels(), thread, t.threads), 0, [&] { barrier.wait(); });
    }
  }

  // `at`: the row of the inner states where those of the merge `begin` are. Threads that have the
  // same rows `meet` where one of them reads what another one wrote.
  template <class Meet>
  void merges(size_t begin, size_t end, Share units, size_t at, Meet&& meet) {
    auto state = [&](int r, size_t m) {
      return r == t.refinements ? pool.state(t.N + m) : inner[r % 2][at + m - begin];
    };
    merge.run(
        units, begin, end, [&](int side, size_t m) { return pool.operand(side, m); },
        [&](size_t m) {
          const TreeState<E> to = state(0, m);
          return TreeRow<E>{{pool.operand_c(0, m), pool.operand_c(1, m)}, to.h, to.c, pool.slot(m)};
        });
    for (int r = 0; r < t.refinements; r++) {
      meet();
      refine[r].run(
          units, begin, end, [&](int, size_t m) { return state(r, m).h; },
          [&](size_t m) {
            const TreeState<E> to = state(r + 1, m);
            return TreeRow<E>{{state(r, m).c}, to.h, to.c, nullptr};
          });
    }
  }

  const TreePool<C, E> pool;
  const TreeCall<E>& t;
  TreeMap<C, 0, E> leaf;
  TreeMap<C, 2, E> merge;
  std::vector<TreeMap<C, 1, E>> refine;
  std::vector<TreeStates<E>> inner;
  Barrier barrier;
};

// Gradients, from the pool and the slots. Merges run in reverse; a row's gradient is gathered
// from the merges that used it, in their order. Weights' gradients are summed span by span.
template <class C, class E>
class TreeBackward {
 public:
  TreeBackward(const TreeCall<E>& call, const TreeBack<E>& back)
      : pool(call),
        t(call),
        b(back),
        H(t.H),
        R(t.refinements),
        span(longest_span()),
        leaf(t.w_leaf, t.b_leaf, t.I, H),
        of_merge(H, 2 * H, C::gates(2), t.w_merge),
        of_leaf(H, b.dx ? t.I : 0, C::gates(0), t.w_leaf),
        grads(span, H, C::MEMORY),
        barrier(t.threads),
        scratch(t.threads) {
    dz.resize(R + 1);
    dz[R].resize(span * C::gates(2) * H);
    for (int r = 0; r < R; r++) {
      dz[r].resize(span * C::gates(1) * H);
      inner.emplace_back(span, H, C::MEMORY);
      refine.emplace_back(t.w_refine[r], t.b_refine[r], H, H);
      of_refine.emplace_back(H, H, C::gates(1), t.w_refine[r]);
    }
    sums.resize((C::gates(0) + C::gates(2) + R * C::gates(1)) * H);
    auto clear = [&](float* dw, int gates, size_t K) {
      if (dw) std::fill_n(dw, gates * H * K, 0.0f);
    };
    clear(b.dw_leaf, C::gates(0), t.I), clear(b.dw_merge, C::gates(2), 2 * H);
    for (int r = 0; r < R; r++) clear(b.dw_refine[r], C::gates(1), H);
    // Threads allocate nothing, or there would be nobody to tell that memory is short.
    for (auto& s : scratch)
      s.resize(std::max(outer_scratch<E>({H, H}), outer_scratch<E>({t.I})));
  }

  void run() {
    on_threads(t.threads, [this](int thread) { work(thread); });
    const double* from = sums.data();
    auto take = [&](float* db, int gates) {
      if (db) std::copy_n(from, gates * H, db);
      from += gates * H;
    };
    take(b.db_leaf, C::gates(0));
    take(b.db_merge, C::gates(2));
    for (int r = 0; r < R; r++) take(b.db_refine[r], C::gates(1));
  }

 private:
  // A matrix (G * H, N) for products of rows of G * H with it.
  struct Columns {
    size_t K, N;
    std::vector<E> packed;
    Columns(size_t H, size_t N, int G, const E* w)
        : K(G * H), N(N), packed(packed_columns<E>(K, N)) {
      if (N) pack_columns(w, N, K, N, packed.data());
    }
    size_t panels() const { return (N + WIDE * W - 1) / (WIDE * W); }

    template <class A, class O>
    void multiply(Share these, size_t begin, size_t end, A&& a, O&& out) const {
      const size_t first = these.begin * WIDE * W, last = std::min(N, these.end * WIDE * W);
      if (first < last)
        TR_TARGET::multiply(begin, end, K, last - first, a, packed.data() + first * packed_rows<E>(K),
                            [&](size_t m) { return out(m) + first; });
    }
  };

  // Long enough for the sums of weights' gradients, short beside what is kept.
  size_t longest_span() const {
    constexpr size_t UNIT = 4 * BLOCK;
    const size_t wanted = std::clamp(t.M / 8 / UNIT, size_t{1}, size_t{4}) * UNIT;
    return std::min(wanted, std::max(t.M, t.given));
  }

  void work(int thread) {
    size_t round = t.rounds;
    for (size_t end = t.M; end > 0;) {
      const size_t begin = (end - 1) / span * span;
      for (size_t e = end; e > begin;) {
        const size_t start = round > 1 ? t.round_end[round - 2] : 0, from = std::max(begin, start);
        part_of_round(thread, from, e, begin);
        barrier.wait();
        if (from == start) round--;
        e = from;
      }
      of_merges(thread, begin, end);
      barrier.wait();
      end = begin;
    }
    for (size_t begin = 0; begin < t.given; begin += span) {
      const size_t end = std::min(t.given, begin + span);
      const Share mine = share(end - begin, thread, t.threads);
      by_blocks(begin + mine.begin, begin + mine.end,
                [&](size_t from, size_t to) { leaves(from, to, begin); });
      barrier.wait();
      weight<1>(
          thread, C::gates(0), end - begin, t.I, dz[R],
          [&](int, size_t k) { return t.x + (begin + k) * t.I; }, b.dw_leaf,
          b.db_leaf ? 0 : NOWHERE);
      barrier.wait();
    }
    const Share mine = share(t.N - t.given, thread, t.threads);
    for (size_t n = mine.begin; n < mine.end; n++)
      gather(t.given + n, {0, panels(H)},
             TreeState<E>{b.dh_carried + n * H, C::MEMORY ? b.dc_carried + n * H : nullptr});
  }

  void part_of_round(int thread, size_t begin, size_t end, size_t first) {
    const Share all{0, (H + WIDE * W - 1) / (WIDE * W)};
    if (end - begin >= FEW * t.threads || t.threads == 1) {
      const Share mine = share(end - begin, thread, t.threads);
      by_blocks(begin + mine.begin, begin + mine.end, [&](size_t from, size_t to) {
        merges(from, to, first, all, {0, of_merge.panels()}, [] {});
      });
    } else {
      merges(begin, end, first, share(all.end, thread, t.threads),
             share(of_merge.panels(), thread, t.threads), [&] { barrier.wait(); });
    }
  }

  // All that reaches a row of the pool: from outside, then from its uses in their order.
  template <class To>
  __attribute__((flatten)) void gather(size_t row, Share units, TreeState<To> to) const {
    for (size_t u = units.begin; u < units.end; u++) {
      const Units at(u, H);
      V h{}, c{};
      for (size_t s = 0; s < b.sources; s++) {
        const TreeSource<E>& from = b.source[s];
        for (int64_t k = from.begin[row]; k < from.begin[row + 1]; k++) {
          if (from.dh) h += at.get(from.dh + from.places[k] * H);
          if (C::MEMORY && from.dc) c += at.get(from.dc + from.places[k] * H);
        }
      }
      for (int64_t k = b.use_begin[row]; k < b.use_begin[row + 1]; k++) {
        const TreeState<E> from = pool.given(b.uses[k] % 2, b.uses[k] / 2);
        h += at.get(from.h);
        if (C::MEMORY) c += at.get(from.c);
      }
      at.put(to.h, h);
      if (C::MEMORY) at.put(to.c, c);
    }
  }

  // Merges of the span that starts at `first`, in `columns` panels of H and `both` of 2 H.
  template <class Meet>
  void merges(size_t begin, size_t end, size_t first, Share columns, Share both, Meet&& meet) {
    const Share units{columns.begin * WIDE, std::min(panels(H), columns.end * WIDE)};
    for (size_t m = begin; m < end; m++) gather(t.N + m, units, grads[m - first]);
    auto state = [&](int r, size_t m) {
      return r == R ? pool.state(t.N + m) : inner[r][m - first];
    };
    for (size_t m = begin; m < end; m++)
      again(m, units, dz_at(R, m - first), R ? state(0, m) : TreeState<E>{});
    // Slots are read; what their merges give to their operands may take their place.
    meet();
    for (int r = 0; r < R; r++) {
      // The last state is in the pool.
      const bool last = r + 1 == R;
      if (last && !C::ACTIVE(1)) break;
      if (r) meet();
      refine[r].run(
          {columns.begin * WIDE / C::UV, std::min(refine[r].panels(), columns.end * WIDE / C::UV)},
          begin, end, [&](int, size_t m) { return state(r, m).h; },
          [&](size_t m) {
            const TreeState<E> to = last ? TreeState<E>{} : state(r + 1, m);
            E* active = C::ACTIVE(1) ? dz_at(r, m - first) : nullptr;
            return TreeRow<E>{{state(r, m).c}, to.h, to.c, active};
          });
    }
    for (int r = R; r-- > 0;) {
      pointwise<1>(begin, end, units, [&](size_t m) {
        const TreeState<E> to = state(r + 1, m);
        const TreeState<float> d = grads[m - first];
        E* z = dz_at(r, m - first);
        return TreeBackRow<E>{{state(r, m).c}, to.h, to.c, z, d.h, d.c, z, {d.c}};
      });
      meet();
      of_refine[r].multiply(
          columns, begin, end, [&](size_t m) { return dz_at(r, m - first); },
          [&](size_t m) { return grads[m - first].h; });
    }
    pointwise<2>(begin, end, units, [&](size_t m) {
      const TreeState<E> to = state(0, m);
      const TreeState<float> d = grads[m - first];
      E* z = dz_at(R, m - first);
      return TreeBackRow<E>{{pool.operand_c(0, m), pool.operand_c(1, m)},
                            to.h, to.c, z, d.h, d.c, z,
                            {pool.given(0, m).c, pool.given(1, m).c}};
    });
    meet();
    of_merge.multiply(
        both, begin, end, [&](size_t m) { return dz_at(R, m - first); },
        [&](size_t m) { return pool.slot(m); });
  }

  // What was kept of a merge, and the state that it comes to before any refinement.
  __attribute__((noinline, flatten)) void again(size_t m, Share units, E* kept,
                                                TreeState<E> to) const {
    const size_t from = units.begin * W, count = std::min(H, units.end * W) - from;
    for (size_t block = 0; block < C::KEPT; block++)
      std::memcpy(kept + block * H + from, pool.slot(m) + block * H + from, count * sizeof(E));
    if (!to.h) return;
    const TreeRow<E> row{{pool.operand_c(0, m), pool.operand_c(1, m)}, to.h, to.c, kept};
    for (size_t u = units.begin; u < units.end; u++) C::again(Units(u, H), H, row);
  }

  template <int P, class Row>
  __attribute__((noinline, flatten)) void pointwise(size_t begin, size_t end, Share units, Row&& row) const {
    for (size_t m = begin; m < end; m++) {
      const TreeBackRow<E> at = row(m);
      for (size_t u = units.begin; u < units.end; u++)
        C::template backward<P>(Units(u, H), H, at);
    }
  }

  void leaves(size_t begin, size_t end, size_t first) {
    for (size_t n = begin; n < end; n++) gather(n, {0, panels(H)}, grads[n - first]);
    if (C::ACTIVE(0))
      leaf.run(
          {0, leaf.panels()}, begin, end, [&](int, size_t n) { return t.x + n * t.I; },
          [&](size_t n) { return TreeRow<E>{{}, nullptr, nullptr, leaf_dz(n - first)}; });
    pointwise<0>(begin, end, {0, panels(H)}, [&](size_t n) {
      const TreeState<E> of = pool.state(n);
      const TreeState<float> d = grads[n - first];
      E* z = leaf_dz(n - first);
      return TreeBackRow<E>{{}, of.h, of.c, z, d.h, d.c, z, {}};
    });
    of_leaf.multiply(
        {0, of_leaf.panels()}, begin, end, [&](size_t n) { return leaf_dz(n - first); },
        [&](size_t n) { return b.dx + n * t.I; });
  }

  // Gradients of pre-activations: of refinement r, of the merge for r = R.
  E* dz_at(int r, size_t row) {
    return dz[r].data() + row * (r == R ? C::gates(2) : C::gates(1)) * H;
  }
  // Leaves come when all merges are done with.
  E* leaf_dz(size_t row) { return dz[R].data() + row * C::gates(0) * H; }

  void of_merges(int thread, size_t begin, size_t end) {
    size_t bias = C::gates(0) * H;
    weight<2>(
        thread, C::gates(2), end - begin, H, dz[R],
        [&](int side, size_t k) { return pool.operand(side, begin + k); }, b.dw_merge,
        b.db_merge ? bias : NOWHERE);
    bias += C::gates(2) * H;
    for (int r = 0; r < R; r++, bias += C::gates(1) * H)
      weight<1>(
          thread, C::gates(1), end - begin, H, dz[r],
          [&](int, size_t k) { return inner[r][k].h; }, b.dw_refine[r],
          b.db_refine[r] ? bias : NOWHERE);
  }

  static constexpr size_t NOWHERE = SIZE_MAX;

  // dw += dz^T operands, K columns for each of PARTS operands, and the sums of dz from `bias` on,
  // for this thread's rows of dw.
  template <int PARTS, class A>
  void weight(int thread, int gates, size_t count, size_t K, const std::vector<E>& of,
              A&& operand, float* dw, size_t bias) {
    const size_t G = gates * H;
    const Share mine = share(G, thread, t.threads);
    auto z = [&](size_t k) { return of.data() + k * G; };
    if (dw) {
      size_t columns[PARTS];
      std::fill_n(columns, PARTS, K);
      outer_parts(
          mine.begin, mine.end, columns, count, z, operand,
          [&](size_t part, size_t m) { return dw + (m * PARTS + part) * K; },
          scratch[thread].data());
    }
    if (bias == NOWHERE) return;
    // In double: terms of both signs, as many as merges, cancel to a small rest.
    constexpr size_t TOGETHER = 8;
    double* to = sums.data() + bias;
    for (size_t first = 0; first < count; first += TOGETHER)
      for (size_t g = mine.begin; g < mine.end; g += W) {
        const size_t columns = std::min(W, mine.end - g);
        V sum{};
        for (size_t k = first; k < std::min(count, first + TOGETHER); k++)
          sum += columns == W ? load(z(k) + g) : load_part(z(k) + g, columns);
        for (size_t j = 0; j < columns; j++) to[g + j] += sum[j];
      }
  }

  const TreePool<C, E> pool;
  const TreeCall<E>& t;
  const TreeBack<E>& b;
  const size_t H;
  const int R;
  const size_t span;
  TreeMap<C, 0, E> leaf;
  std::vector<TreeMap<C, 1, E>> refine;
  Columns of_merge, of_leaf;
  std::vector<Columns> of_refine;
  TreeStates<float> grads;  // what reaches the merges of the span
  std::vector<TreeStates<E>> inner;  // their states before each refinement
  std::vector<std::vector<E>> dz;
  std::vector<double> sums;
  Barrier barrier;
  std::vector<std::vector<E>> scratch;
};

// f(cell) with the cell that `kind` names.
template <class F>
inline void with_merging_cell(int kind, F&& f) {
  switch (kind) {
    case 0: return f(PRLSTMTree{});
    case 1: return f(PRRNNTree{});
  }
}

template <class E>
inline void tree_forward(const TreeCall<E>& call) {
  with_merging_cell(call.kind, [&](auto cell) { TreeForward<decltype(cell), E>(call).run(); });
}

template <class E>
inline void tree_backward(const TreeCall<E>& call, const TreeBack<E>& back) {
  with_merging_cell(call.kind,
                    [&](auto cell) { TreeBackward<decltype(cell), E>(call, back).run(); });
}

}  // namespace TR_TARGET
