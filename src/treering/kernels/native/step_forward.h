// A step cell forwards through a whole sequence, or through one token.
//
// A panel holds W (or UV * W) units of all gates and has a row for every entry of [x; h], so that
// one tile gives all pre-activations of its units; the pointwise part follows while they are in
// the first cache. h of the step before is read from the outputs. Layer norm needs all units of a
// row before the pointwise part: it comes in phases of its own.
//
// Legend: B batch, T time, I input, H hidden, HP hidden rounded up to vectors, S accumulators.
#pragma once
#include "rows.h"
#include "step.h"

namespace TR_TARGET {

// What becomes of the accumulators of panel p for `rows` rows from b on: z (rows, UV, S + N2, W).
using Finish = void (*)(Step& at, size_t time, size_t p, size_t b, int rows, float* z);
// What follows when the accumulators of all units are there.
using Later = void (*)(Step& at, size_t time, Share rows, Share units);

// A new state on its way into the tensors.
inline void settle(Step& at, size_t time, size_t b, const Units& units, const Given& g, After s) {
  if (at.t.zoneout > 0.0f) {
    if (float* row = at.kept(time, b))
      store(row + at.replaced() + units.at, at.cell.MEMORY ? s.c : s.h);
    s.h += all(at.t.zoneout) * (g.h - s.h);
    s.c += all(at.t.zoneout) * (g.c - s.c);
  }
  if (const float* start = at.block_start(time, b)) s.h += units.get(start);
  units.put(at.y(time, b), s.h);
  if (at.cell.MEMORY) units.put(at.c(time, b), s.c);
}

template <class F>
inline void each_unit(Step& at, size_t p, size_t b, int rows, float* z, F&& f) {
  const size_t UV = at.cell.UV, accumulators = (at.cell.S + at.cell.N2) * W;
  for (size_t v = 0; v < UV && p * UV + v < at.U; v++)
    for (int i = 0; i < rows; i++)
      f(Units(p * UV + v, at.t.H), b + i, Blocks{z + (i * UV + v) * accumulators, W});
}

// By pointer: alike in every tile, whatever the compiler makes of products and sums.
template <class C>
TR_FLAT void finish(Step& at, size_t time, size_t p, size_t b, int rows, float* z) {
  each_unit(at, p, b, rows, z, [&](const Units& units, size_t row, Blocks of_row) {
    const size_t place = at.place(row);
    const Given g = at.given(time, place, units);
    settle(at, time, place, units, g, C::forward(g, of_row, at.blocks(time, place, units)));
  });
}

// With layer norm: keeps the accumulators, and their share of the row's moments.
TR_FLAT inline void stash(Step& at, size_t time, size_t p, size_t b, int rows, float* z) {
  each_unit(at, p, b, rows, z, [&](const Units& units, size_t row, Blocks of_row) {
    const Blocks kept = at.blocks(time, at.place(row), units);
    V of_x[4], of_h[4];
    for (int s = 0; s < at.cell.S; s++) kept.put(s, of_x[s] = of_row[s]);
    for (int s = 0; s < at.cell.N2; s++) kept.put(at.cell.S + s, of_h[s] = of_row[at.cell.S + s]);
    const size_t m = row * at.U + units.at / W;
    at.moments[0][m] = Moments::of(of_x, of_x, at.cell.S);
    at.moments[1][m] = Moments::of(of_h, of_h, at.cell.N2);
  });
}

template <class C>
TR_FLAT void normed_gates(Step& at, size_t time, Share rows, Share vectors) {
  using Cell = typename C::Cell;
  for (size_t row = rows.begin; row < rows.end; row++) {
    const size_t place = at.place(row);
    const Normal of_x = at.normal(0, row, C::SX * at.t.H), of_h = at.normal(1, row, C::SH * at.t.H);
    if (vectors.begin == 0 && vectors.end > 0) {
      float* numbers = at.numbers(time, place);
      numbers[0] = of_x.scale, numbers[1] = of_h.scale;
    }
    for (size_t u = vectors.begin; u < vectors.end; u++) {
      const Units units(u, at.t.H);
      const Given g = at.given(time, place, units);
      const Blocks hats = at.blocks(time, place, units);
      for (int s = 0; s < C::KEPT; s++) hats.put(s, (s < C::SX ? of_x : of_h)(hats[s]));
      float pre[C::Cell::S * W];
      C::pre(g, hats, {pre, W});
      if constexpr (C::MEMORY) {
        const V c = Cell::memory(g, typename C::Gates(g, {pre, W}));
        units.put(at.c(time, place), c);
        at.moments[2][row * at.U + u] = Moments::of(&c, &c, 1);
      } else {
        settle(at, time, place, units, g, Cell::forward(g, {pre, W}, {nullptr, 0}));
      }
    }
  }
}

template <class C>
TR_FLAT void normed_output(Step& at, size_t time, Share rows, Share vectors) {
  for (size_t row = rows.begin; row < rows.end; row++) {
    const size_t place = at.place(row);
    const Normal of_c = at.normal(2, row, at.t.H);
    if (vectors.begin == 0 && vectors.end > 0) {
      float* numbers = at.numbers(time, place);
      numbers[2] = of_c.mean, numbers[3] = of_c.scale;
    }
    for (size_t u = vectors.begin; u < vectors.end; u++) {
      const Units units(u, at.t.H);
      const Given g = at.given(time, place, units);
      float pre[C::Cell::S * W];
      C::pre(g, at.blocks(time, place, units), {pre, W});
      const typename C::Gates k(g, {pre, W});
      const V c = units.get(at.c(time, place));
      const V read = tanh(of_c(c) * g.fixed(C::READ) + g.fixed(C::READ + 1));
      settle(at, time, place, units, g, {k.mix(g, k.o * read), c});
    }
  }
}

// How a cell goes forwards.
struct ForwardKernel {
  StepLayout layout;
  void (*tiles)(class StepForward& f, size_t time, size_t p, Share rows);
  Finish finish;
  Later later[2];
};

class StepForward {
 public:
  StepForward(const StepCall& call, const ForwardKernel& k)
      : at(call, k.layout), t(call), kernel(k), cell(at.cell), barrier(t.threads) {
    packed.resize(panels_of_units() * panel());
    pack();
    if (t.kept) {
      large_pages(t.kept, t.T * t.B * t.kept_size);
      large_pages(t.c, cell.MEMORY ? t.T * t.B * t.H : 0);
    }
    large_pages(t.y, t.T * t.B * t.H);
  }

  void run() {
    on_threads(t.threads, [this](int thread) { work(thread); });
    for (size_t row = 0; row < t.B; row++) {
      const size_t last = at.length(row) - 1, b = at.place(row);
      std::memcpy(t.h_last + b * t.H, at.y(last, b), t.H * sizeof(float));
      if (cell.MEMORY) std::memcpy(t.c_last + b * t.H, at.c(last, b), t.H * sizeof(float));
    }
    at.last_blocks();
  }

  // All rows of the first product are N vectors wide, of which x meets LX and h LH from OH on; a
  // second product likewise.
  template <int N, int LX, int LH, int OH, int N2, int LX2, int LH2>
  static void tiles(StepForward& f, size_t time, size_t p, Share rows) {
    by_tiles<tile_rows(N)>(rows.begin, rows.end, [&](auto count, size_t b) {
      constexpr int R = decltype(count)::value, Z = (N + N2) * W;
      alignas(64) float z[R * Z];
      const float *x[R], *h[R];
      for (int i = 0; i < R; i++) {
        const size_t place = f.at.place(b + i);
        x[i] = f.at.x(time, place), h[i] = f.at.h_before(time, place);
      }
      const float* panel = f.packed.data() + p * f.panel();
      f.product<R, N, LX, LH, OH>(x, h, panel, z, Z, f.cell.S, 0);
      if constexpr (N2 > 0)
        f.product<R, N2, LX2, LH2, 0>(x, h, panel + f.chunk(N, LX, LH), z, Z, f.cell.N2, f.cell.S);
      f.kernel.finish(f.at, time, p, b, R, z);
    });
  }

 private:
  void work(int thread) {
    const Share rows = t.by_units ? Share{0, t.B} : at.rows(thread);
    const Share mine = t.by_units ? share(panels_of_units(), thread, t.threads)
                                  : Share{0, panels_of_units()};
    const Share vectors{mine.begin * cell.UV, std::min(at.U, mine.end * cell.UV)};
    const bool meet = t.by_units && t.threads > 1;
    if (at.from_input()) {
      at.alphas_of(thread);
      if (t.threads > 1) barrier.wait();
    }
    size_t end = rows.end;
    for (size_t time = 0; time < t.T; time++) {
      end = std::max(rows.begin, at.active(time, end));
      for (size_t p = mine.begin; p < mine.end; p++)
        kernel.tiles(*this, time, p, {rows.begin, end});
      if (meet) barrier.wait();
      for (Later later : kernel.later) {
        if (!later) break;
        later(at, time, {rows.begin, end}, vectors);
        if (meet) barrier.wait();
      }
    }
  }

  // z = bias + W_x x + W_h h, to its place among the accumulators of a unit: `count` of them from
  // `first` on.
  template <int R, int N, int LX, int LH, int OH>
  void product(const float* const* x, const float* const* h, const float* panel, float* z,
               size_t row, int count, int first) const {
    V acc[R][N];
    for (int i = 0; i < R; i++)
      for (int j = 0; j < N; j++) acc[i][j] = load(panel + j * W);
    if constexpr (LX > 0) accumulate<R, N, LX, 0>(acc, x, panel + N * W, t.I);
    if constexpr (LH > 0) accumulate<R, N, LH, OH>(acc, h, panel + (N + t.I * LX) * W, t.H);
    const int of_unit = cell.S + cell.N2;
    for (int j = 0; j < N; j++) {
      float* to = z + (j / count * of_unit + first + j % count) * W;
      for (int i = 0; i < R; i++) store(to + i * row, acc[i][j]);
    }
  }

  size_t panels_of_units() const { return (at.U + cell.UV - 1) / cell.UV; }
  size_t chunk(int N, int LX, int LH) const { return (N + t.I * LX + t.H * LH) * W; }
  size_t panel() const {
    return cell.UV * (chunk(cell.S, 0, 0) + chunk(cell.N2, 0, 0) + chunk(0, cell.SX, 0) +
                      chunk(0, 0, cell.SH));
  }

  void pack() {
    static constexpr int ordered[] = {0, 1, 2, 3, 4, 5, 6, 7};
    float* out = packed.data();
    for (size_t p = 0; p < panels_of_units(); p++)
      // The accumulators of each product, and the blocks of x and h that enter them.
      for (auto [first, count] : {std::pair(0, cell.S), std::pair(cell.S, cell.N2)}) {
        const int end = first + count;
        blocks(p, ordered + first, count, t.weights.bias, 1, out);
        if (first < cell.SX)
          blocks(p, cell.x_blocks + first, std::min(end, cell.SX) - first, t.weights.w_x, t.I, out);
        const int from = std::max(first, cell.OH), to = std::min(end, cell.OH + cell.SH);
        if (from < to) blocks(p, ordered + from - cell.OH, to - from, t.weights.w_h, t.H, out);
      }
  }

  // `count` blocks of a matrix with K columns, for the units of panel p.
  void blocks(size_t p, const int* order, int count, const float* matrix, size_t K,
              float*& out) const {
    const float* rows[8 * W];
    const size_t n = cell.UV * count * W;
    for (int v = 0; v < cell.UV; v++)
      for (int s = 0; s < count; s++)
        for (size_t j = 0; j < W; j++) {
          const size_t unit = (p * cell.UV + v) * W + j;
          rows[(v * count + s) * W + j] =
              matrix && unit < t.H ? matrix + (order[s] * t.H + unit) * K : nullptr;
        }
    for (size_t k = 0; k < K; k++)
      for (size_t j = 0; j < n; j++) *out++ = rows[j] ? rows[j][k] : 0.0f;
  }

  Step at;
  const StepCall& t;
  const ForwardKernel& kernel;
  const StepLayout& cell;
  Barrier barrier;
  std::vector<float> packed;
};

// A cell's weights as its layer has them, for one token: joining them would take longer than it.
struct OnceWeights {
  // [0] the gates' blocks, [1] what follows them, or nullptr.
  const float *w_x[2], *w_h[2];
  const float *bias_x, *bias_h;  // the gates', in the order of the matrices; or
  const float* bias;             // in the order of the accumulators, for all
  const float* extra;            // (EXTRA, H); or what it is made of:
  const float *scale, *shift, *alpha;
  size_t alphas;      // numbers in alpha, 1 or H
  float alpha_value;  // without alpha
};

// One token, few rows.
class StepOnce {
 public:
  StepOnce(StepCall& call, const OnceWeights& weights, const ForwardKernel& k)
      : at(pointed(call, weights, k.layout), k.layout),
        t(call),
        w(weights),
        kernel(k),
        cell(at.cell) {}

  void run() {
    at.alphas_of(0);
    const int accumulators = cell.S + cell.N2;
    for (size_t u = 0; u < at.U; u += cell.UV)
      for (size_t b = 0; b < t.B; b++) {
        alignas(64) float z[8 * W];
        for (size_t v = 0; v < static_cast<size_t>(cell.UV) && u + v < at.U; v++)
          for (int s = 0; s < accumulators; s++)
            store(z + (v * accumulators + s) * W, accumulator(s, Units(u + v, t.H), b));
        kernel.finish(at, 0, u / cell.UV, b, 1, z);
      }
    for (Later later : kernel.later)
      if (later) later(at, 0, {0, t.B}, {0, at.U});
    std::memcpy(t.h_last, t.y, t.B * t.H * sizeof(float));
  }

 private:
  // Blocks of the first matrix; what follows has no bias of its own.
  static constexpr int GATES = 4;

  // Of this thread, so that the next token finds the room it needs.
  static const float* extra_of(const StepCall& t, const OnceWeights& w, const StepLayout& cell) {
    if (w.extra || cell.ALPHA < 0) return w.extra;
    static thread_local std::vector<float> all_of;
    all_of.resize(cell.EXTRA * t.H);
    float* out = all_of.data();
    const size_t count = cell.ALPHA / 2 * t.H;
    auto put = [&](const float* from, float otherwise) {
      from ? std::copy_n(from, count, out) : std::fill_n(out, count, otherwise);
      out += count;
    };
    put(w.scale, 1.0f), put(w.shift, 0.0f);
    for (size_t i = 0; i < t.H; i++) {
      out[i] = w.alpha ? w.alpha[t.H == w.alphas ? i : 0] : w.alpha_value;
      if (w.alpha && t.options & Skip::BOUNDED) out[i] = sigmoid(all(out[i]))[0];
    }
    return all_of.data();
  }

  static const StepCall& pointed(StepCall& call, const OnceWeights& w, const StepLayout& cell) {
    call.weights = {w.w_x[0], w.w_h[0], w.bias, extra_of(call, w, cell)};
    return call;
  }

  V accumulator(int s, const Units& units, size_t b) const {
    RowSums sums;
    V bias = w.bias ? units.get(w.bias + s * t.H) : V{};
    if (s < cell.SX)
      meet(sums, bias, w.w_x, w.bias_x, cell.x_blocks[s], units, t.x + b * t.I, t.I);
    if (s >= cell.OH && s < cell.OH + cell.SH)
      meet(sums, bias, w.w_h, w.bias_h, s - cell.OH, units, t.h_first + b * t.H, t.H);
    // Beyond the last unit there must be 0, which layer norm counts on.
    return sums.across(units.count) + bias;
  }

  void meet(RowSums& sums, V& bias, const float* const (&w)[2], const float* of_blocks, int block,
            const Units& units, const float* v, size_t K) const {
    const bool beyond = w[1] && block >= GATES;
    const float* rows = beyond ? w[1] + (block - GATES) * t.H * K : w[0] + block * t.H * K;
    sums.add(rows + units.at * K, K, units.count, v, K);
    if (of_blocks && !beyond) bias += units.get(of_blocks + block * t.H);
  }

  Step at;
  const StepCall& t;
  const OnceWeights& w;
  const ForwardKernel& kernel;
  const StepLayout& cell;
};

}  // namespace TR_TARGET
