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
// Legend: N rows before the first merge, M merges, I input, H hidden, R refinements, G gates.
#pragma once
#include <algorithm>
#include <vector>

#include "pages.h"
#include "threads.h"
#include "tree_cells.h"

namespace TR_TARGET {

struct TreeCall {
  size_t given;  // leaves that are computed from x; the other rows up to N are in the pool
  size_t N, M, I, H;
  int kind, refinements, threads;
  size_t rounds;
  const int64_t* round_end;  // (rounds) merges done after each round
  const int32_t *left, *right;  // (M) rows of the pool
  const float* x;  // (given, I)
  // Weights as the layer has them, row-major; biases may be nullptr.
  const float *w_leaf, *b_leaf, *w_merge, *b_merge;
  const float* const* w_refine;
  const float* const* b_refine;
  float *h, *c;  // the pool, (N + M, H)
  float* slots;  // (M, tree_slot, H) for the backward pass, or nullptr
};

// Gradients that reach the pool from outside: of rows that were copied from it.
struct TreeSource {
  const int64_t* begin;   // (N + M + 1) into places
  const int32_t* places;  // of the copies, in order, for each row of the pool
  const float *dh, *dc;   // (copies, H) or nullptr
};

struct TreeBack {
  const int64_t* use_begin;  // (N + M + 1) into uses
  const int32_t* uses;  // merge * 2 + side, in order, for each row of the pool
  size_t sources;
  const TreeSource* source;
  float* dx;  // (given, I) or nullptr
  float *dh_carried, *dc_carried;  // (N - given, H)
  // Matrices zeroed; each may be nullptr.
  float *dw_leaf, *db_leaf, *dw_merge, *db_merge;
  float* const* dw_refine;
  float* const* db_refine;
};

// Blocks of H of a merge's slot: what is kept, then the gradients of h_left, h_right, c_left and
// c_right.
template <class C>
constexpr size_t tree_slot() {
  return std::max(C::KEPT, C::MEMORY ? 4 : 2);
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
template <class C, int P>
class TreeMap {
 public:
  static constexpr int G = C::gates(P);

  // K columns for each operand.
  TreeMap(const float* w, const float* b, size_t K, size_t H)
      : K(K), H(H), weight(panels() * NV * W * PARTS * K), bias(panels() * NV * W) {
    pack_gates(w, PARTS * K, G, H, PARTS * K, weight.data(), C::UV);
    pack_gates(b, 1, G, H, 1, bias.data(), C::UV);
  }

  size_t panels() const { return (TR_TARGET::panels(H) + C::UV - 1) / C::UV; }

  // Rows [begin, end), these panels: operand(part, m) is what row m multiplies, row(m) where its
  // results go.
  template <class A, class Row>
  void run(Share these, size_t begin, size_t end, A&& operand, Row&& row) const {
    for (size_t p = these.begin; p < these.end; p++)
      by_tiles<tile_rows(NV)>(begin, end, [&](auto count, size_t m) {
        alignas(64) float z[decltype(count)::value * NV * W];
        product<decltype(count)::value>(p, m, operand, z);
        finish(p, m, decltype(count)::value, z, row);
      });
  }

 private:
  static constexpr int NV = G * C::UV, PARTS = std::max(1, P);

  template <int R, class A>
  void product(size_t p, size_t m, A&& operand, float* z) const {
    const float *from = bias.data() + p * NV * W, *panel = weight.data() + p * NV * W * PARTS * K;
    V acc[R][NV];
    for (int i = 0; i < R; i++)
      for (int j = 0; j < NV; j++) acc[i][j] = load(from + j * W);
    for (int part = 0; part < PARTS; part++, panel += K * NV * W) {
      const float* rows[R];
      for (int i = 0; i < R; i++) rows[i] = operand(part, m + i);
      accumulate<R, NV>(acc, rows, panel, K);
    }
    for (int i = 0; i < R; i++)
      for (int j = 0; j < NV; j++) store(z + (i * NV + j) * W, acc[i][j]);
  }

  // Not inlined into tiles of different sizes, where products would be contracted differently.
  template <class Row>
  __attribute__((noinline, flatten)) void finish(size_t p, size_t m, int rows, const float* z,
                                        Row& row) const {
    for (int v = 0; v < C::UV; v++) {
      if ((p * C::UV + v) * W >= H) break;
      const Units units(p * C::UV + v, H);
      for (int i = 0; i < rows; i++)
        C::template forward<P>(units, H, row(m + i), z + (i * NV + v * G) * W);
    }
  }

  const size_t K, H;
  std::vector<float> weight, bias;
};

// One state, or its gradient.
struct TreeState {
  float *h, *c;
};

template <class C>
class TreePool {
 public:
  explicit TreePool(const TreeCall& call) : t(call) {}

  TreeState state(size_t row) const {
    return {t.h + row * t.H, C::MEMORY ? t.c + row * t.H : nullptr};
  }
  float* slot(size_t m) const { return t.slots ? t.slots + m * tree_slot<C>() * t.H : nullptr; }
  const float* operand(int side, size_t m) const {
    return t.h + (side ? t.right : t.left)[m] * t.H;
  }
  const float* operand_c(int side, size_t m) const {
    return C::MEMORY ? t.c + (side ? t.right : t.left)[m] * t.H : nullptr;
  }
  // What a merge gives to an operand, when its slot has taken it up.
  TreeState given(int side, size_t m) const {
    float* h = slot(m) + side * t.H;
    return {h, C::MEMORY ? h + 2 * t.H : nullptr};
  }

  const TreeCall& t;
};

// Rows of states that lie somewhere else, h and c one after the other.
class TreeStates {
 public:
  TreeStates(size_t rows, size_t H, bool memory)
      : H(H), stride(memory ? 2 * H : H), memory(memory), numbers(rows * stride) {}
  TreeState operator[](size_t row) {
    float* h = numbers.data() + row * stride;
    return {h, memory ? h + H : nullptr};
  }

 private:
  size_t H, stride;
  bool memory;
  std::vector<float> numbers;
};

template <class C>
class TreeForward {
 public:
  explicit TreeForward(const TreeCall& call)
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
    if (t.slots) large_pages(t.slots, t.M * tree_slot<C>() * t.H);
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
            const TreeState to = pool.state(n);
            return TreeRow{{}, to.h, to.c, nullptr};
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
          const TreeState to = state(0, m);
          return TreeRow{{pool.operand_c(0, m), pool.operand_c(1, m)}, to.h, to.c, pool.slot(m)};
        });
    for (int r = 0; r < t.refinements; r++) {
      meet();
      refine[r].run(
          units, begin, end, [&](int, size_t m) { return state(r, m).h; },
          [&](size_t m) {
            const TreeState to = state(r + 1, m);
            return TreeRow{{state(r, m).c}, to.h, to.c, nullptr};
          });
    }
  }

  const TreePool<C> pool;
  const TreeCall& t;
  TreeMap<C, 0> leaf;
  TreeMap<C, 2> merge;
  std::vector<TreeMap<C, 1>> refine;
  std::vector<TreeStates> inner;
  Barrier barrier;
};

// Gradients, from the pool and the slots. Merges run in reverse; a row's gradient is gathered
// from the merges that used it, in their order. Weights' gradients are summed span by span.
template <class C>
class TreeBackward {
 public:
  TreeBackward(const TreeCall& call, const TreeBack& back)
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
    // Threads allocate nothing, or there would be nobody to tell that memory is short.
    for (auto& s : scratch) s.resize(std::max(outer_scratch(H, 2), outer_scratch(t.I)));
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
    std::vector<float> packed;
    Columns(size_t H, size_t N, int G, const float* w)
        : K(G * H), N(N), packed(packed_columns(K, N)) {
      if (N) pack_columns(w, N, K, N, packed.data());
    }
    size_t panels() const { return (N + WIDE * W - 1) / (WIDE * W); }

    template <class A, class O>
    void multiply(Share these, size_t begin, size_t end, A&& a, O&& out) const {
      const size_t first = these.begin * WIDE * W, last = std::min(N, these.end * WIDE * W);
      if (first < last)
        TR_TARGET::multiply(begin, end, K, last - first, a, packed.data() + first * K,
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
             {b.dh_carried + n * H, C::MEMORY ? b.dc_carried + n * H : nullptr});
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
  __attribute__((flatten)) void gather(size_t row, Share units, TreeState to) const {
    for (size_t u = units.begin; u < units.end; u++) {
      const Units at(u, H);
      V h{}, c{};
      for (size_t s = 0; s < b.sources; s++) {
        const TreeSource& from = b.source[s];
        for (int64_t k = from.begin[row]; k < from.begin[row + 1]; k++) {
          if (from.dh) h += at.get(from.dh + from.places[k] * H);
          if (C::MEMORY && from.dc) c += at.get(from.dc + from.places[k] * H);
        }
      }
      for (int64_t k = b.use_begin[row]; k < b.use_begin[row + 1]; k++) {
        const TreeState from = pool.given(b.uses[k] % 2, b.uses[k] / 2);
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
    if (R) again(begin, end, units, state);
    for (int r = 0; r < R; r++) {
      // The last state is in the pool.
      const bool last = r + 1 == R;
      if (last && !C::ACTIVE(1)) break;
      meet();
      refine[r].run(
          {columns.begin * WIDE / C::UV, std::min(refine[r].panels(), columns.end * WIDE / C::UV)},
          begin, end, [&](int, size_t m) { return state(r, m).h; },
          [&](size_t m) {
            const TreeState to = last ? TreeState{} : state(r + 1, m);
            float* active = C::ACTIVE(1) ? dz_at(r, m - first) : nullptr;
            return TreeRow{{state(r, m).c}, to.h, to.c, active};
          });
    }
    for (int r = R; r-- > 0;) {
      pointwise<1>(begin, end, units, [&](size_t m) {
        const TreeState to = state(r + 1, m), d = grads[m - first];
        float* z = dz_at(r, m - first);
        return TreeBackRow{{state(r, m).c}, to.h, to.c, z, d.h, d.c, z, {d.c}};
      });
      meet();
      of_refine[r].multiply(
          columns, begin, end, [&](size_t m) { return dz_at(r, m - first); },
          [&](size_t m) { return grads[m - first].h; });
    }
    pointwise<2>(begin, end, units, [&](size_t m) {
      const TreeState to = state(0, m), d = grads[m - first];
      return TreeBackRow{{pool.operand_c(0, m), pool.operand_c(1, m)},
                         to.h, to.c, pool.slot(m), d.h, d.c, dz_at(R, m - first),
                         {pool.given(0, m).c, pool.given(1, m).c}};
    });
    meet();
    of_merge.multiply(
        both, begin, end, [&](size_t m) { return dz_at(R, m - first); },
        [&](size_t m) { return pool.slot(m); });
  }

  template <class At>
  __attribute__((noinline, flatten)) void again(size_t begin, size_t end, Share units, At&& state) {
    for (size_t m = begin; m < end; m++)
      for (size_t u = units.begin; u < units.end; u++) {
        const TreeState to = state(0, m);
        C::again(Units(u, H), H, {{pool.operand_c(0, m), pool.operand_c(1, m)}, to.h, to.c,
                                  pool.slot(m)});
      }
  }

  template <int P, class Row>
  __attribute__((noinline, flatten)) void pointwise(size_t begin, size_t end, Share units, Row&& row) const {
    for (size_t m = begin; m < end; m++) {
      const TreeBackRow at = row(m);
      for (size_t u = units.begin; u < units.end; u++)
        C::template backward<P>(Units(u, H), H, at);
    }
  }

  void leaves(size_t begin, size_t end, size_t first) {
    for (size_t n = begin; n < end; n++) gather(n, {0, panels(H)}, grads[n - first]);
    if (C::ACTIVE(0))
      leaf.run(
          {0, leaf.panels()}, begin, end, [&](int, size_t n) { return t.x + n * t.I; },
          [&](size_t n) { return TreeRow{{}, nullptr, nullptr, leaf_dz(n - first)}; });
    pointwise<0>(begin, end, {0, panels(H)}, [&](size_t n) {
      const TreeState of = pool.state(n), d = grads[n - first];
      float* z = leaf_dz(n - first);
      return TreeBackRow{{}, of.h, of.c, z, d.h, d.c, z, {}};
    });
    of_leaf.multiply(
        {0, of_leaf.panels()}, begin, end, [&](size_t n) { return leaf_dz(n - first); },
        [&](size_t n) { return b.dx + n * t.I; });
  }

  // Gradients of pre-activations: of refinement r, of the merge for r = R.
  float* dz_at(int r, size_t row) {
    return dz[r].data() + row * (r == R ? C::gates(2) : C::gates(1)) * H;
  }
  // Leaves come when all merges are done with.
  float* leaf_dz(size_t row) { return dz[R].data() + row * C::gates(0) * H; }

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
  void weight(int thread, int gates, size_t count, size_t K, const std::vector<float>& of,
              A&& operand, float* dw, size_t bias) {
    const size_t G = gates * H;
    const Share mine = share(G, thread, t.threads);
    auto z = [&](size_t k) { return of.data() + k * G; };
    if (dw)
      outer_parts<PARTS>(
          mine.begin, mine.end, K, count, z, operand,
          [&](int part, size_t m) { return dw + (m * PARTS + part) * K; },
          scratch[thread].data());
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

  const TreePool<C> pool;
  const TreeCall& t;
  const TreeBack& b;
  const size_t H;
  const int R;
  const size_t span;
  TreeMap<C, 0> leaf;
  std::vector<TreeMap<C, 1>> refine;
  Columns of_merge, of_leaf;
  std::vector<Columns> of_refine;
  TreeStates grads;  // what reaches the merges of the span
  std::vector<TreeStates> inner;  // their states before each refinement
  std::vector<std::vector<float>> dz;
  std::vector<double> sums;
  Barrier barrier;
  std::vector<std::vector<float>> scratch;
};

// f(cell) with the cell that `kind` names.
template <class F>
inline void with_merging_cell(int kind, F&& f) {
  switch (kind) {
    case 0: return f(PRLSTMTree{});
    case 1: return f(PRRNNTree{});
  }
}

inline void tree_forward(const TreeCall& call) {
  with_merging_cell(call.kind, [&](auto cell) { TreeForward<decltype(cell)>(call).run(); });
}

inline void tree_backward(const TreeCall& call, const TreeBack& back) {
  with_merging_cell(call.kind, [&](auto cell) { TreeBackward<decltype(cell)>(call, back).run(); });
}

}  // namespace TR_TARGET
