// A step cell along a whole sequence: what a call says, and where things are at one time step.
//
// Threads share the rows of the batch, and then never wait for each other, or they share the
// units and meet in every step. Sums are taken in an order that depends on neither.
//
// Legend: B batch, T time, I input, H hidden, HP hidden rounded up to vectors, U vectors of units.
#pragma once
#include <cmath>
#include <vector>

#include "pages.h"
#include "step_cells.h"
#include "threads.h"

// Everything that the function calls becomes part of it: so many cells in one file use up what the
// compiler allows itself, and a pointwise part made of calls takes twice as long.
#define TR_FLAT __attribute__((flatten))

namespace TR_TARGET {

struct StepWeights {
  // (SX * H, I) and (SH * H, H), as the cell has them. Where the input says how much of h goes
  // past the gates, w_x has one row more and bias one number, for the logit of that.
  const float *w_x, *w_h;
  const float* bias;   // (S + N2, H) in the order of the accumulators, or nullptr
  const float* extra;  // (EXTRA, H)
};

struct StepCall {
  size_t T, B, I, H;
  int32_t kind, options, threads, by_units;
  const float* x;  // x[t * x_time + b * x_row + i]
  int64_t x_time, x_row;
  // Rows run longest first. lengths (B) in that order, and the row's place in the tensors; both
  // nullptr where all sequences are T long.
  const int64_t *lengths, *places;
  const uint8_t* reset;  // (T, B) or nullptr
  StepWeights weights;
  const float *h_first, *c_first;
  float* y;  // (T, B, H)
  float* c;  // (T, B, H) with c_time = B * H, or (B, H) with c_time = 0
  int64_t c_time;
  float* kept;  // (T, B, kept_size), at least Step::row_size(), or nullptr
  int64_t kept_size;
  float *h_last, *c_last;  // (B, H)
  // After every `block_size` steps the state at the block's start is added; 0: never.
  int64_t block_size;
  const float* start_first;    // (B, H)
  const int64_t* steps_first;  // (B)
  float* start_last;           // (B, H)
  int64_t* steps_last;         // (B)
  float zoneout;               // share of the old state in the new one; 0 with layer norm
};

struct StepBack {
  const float* dy;  // dy[t * dy_time + b * dy_row + i], or nullptr
  int64_t dy_time, dy_row;
  const float *dh_last, *dc_last, *dstart_last;  // (B, H) or nullptr
  float* dx;                                     // (T, B, I) or nullptr
  float *dh_first, *dc_first, *dstart_first;     // (B, H)
  float *dw_x, *dw_h;                            // or nullptr
  float* dbias;                                  // as the bias, or nullptr
  float* dextra;                                 // (EXTRA, H) or nullptr
};

// Rows are shared in groups, whose sums are then added in order.
constexpr size_t GROUP = 4;

// A cell's layout, see step_cells.h.
struct StepLayout {
  int S, N2, UV, SX, SH, OH, KEPT, EXTRA, ALPHA;
  bool MEMORY, DIRECT, NORMED;
  const int* x_blocks;
};

template <class C>
constexpr StepLayout layout_of() {
  return {C::S,     C::N2,    C::UV,     C::SX,     C::SH,     C::OH,      C::KEPT,
          C::EXTRA, C::ALPHA, C::MEMORY, C::DIRECT, C::NORMED, C::x_blocks};
}

// Sums of a, and of a * b, over the lanes of n vectors.
struct Moments {
  double first, second;
  static Moments of(const V* a, const V* b, int n) {
    double sums[W] = {}, products[W] = {};
    float left[W], right[W];
    for (int k = 0; k < n; k++) {
      store(left, a[k]), store(right, b[k]);
      for (size_t lane = 0; lane < W; lane++) {
        sums[lane] += left[lane];
        products[lane] += static_cast<double>(left[lane]) * right[lane];
      }
    }
    for (size_t half = W / 2; half > 0; half /= 2)
      for (size_t lane = 0; lane < half; lane++)
        sums[lane] += sums[lane + half], products[lane] += products[lane + half];
    return {sums[0], products[0]};
  }
};

// What brings numbers to mean 0 and variance 1.
struct Normal {
  float mean, scale;
  V operator()(V v) const { return (v - all(mean)) * all(scale); }
};

// Everything that forward and backward both need to find their way.
class Step {
 public:
  Step(const StepCall& call, const StepLayout& layout)
      : t(call), cell(layout), HP(padded(t.H)), U(panels(t.H)), extra(t.weights.extra) {
    if (t.reset) zeros.resize(t.H);
    if (cell.EXTRA && t.H % W) {
      padded_extra.resize(cell.EXTRA * HP);
      for (int e = 0; e < cell.EXTRA; e++)
        std::memcpy(padded_extra.data() + e * HP, t.weights.extra + e * t.H, t.H * sizeof(float));
      extra = padded_extra.data();
    }
    if (t.block_size) find_blocks();
    if (from_input()) alphas.resize(t.T * t.B);
    if (cell.NORMED) {
      for (auto& of_rows : moments) of_rows.resize(t.B * U);
      if (!t.kept) spare.resize(t.B * row_size());
    }
  }

  size_t active(size_t time, size_t rows) const {
    if (t.lengths)
      while (rows > 0 && static_cast<size_t>(t.lengths[rows - 1]) <= time) rows--;
    return rows;
  }
  size_t length(size_t row) const { return t.lengths ? t.lengths[row] : t.T; }
  // Below, b is a place in the tensors.
  size_t place(size_t row) const { return t.places ? t.places[row] : row; }
  bool anew(size_t time, size_t b) const { return t.reset && t.reset[time * t.B + b]; }
  const float* x(size_t time, size_t b) const { return t.x + time * t.x_time + b * t.x_row; }
  float* y(size_t time, size_t b) const { return t.y + (time * t.B + b) * t.H; }
  float* c(size_t time, size_t b) const { return t.c + time * t.c_time + b * t.H; }
  const float* h_before(size_t time, size_t b) const {
    if (anew(time, b)) return zeros.data();
    return time ? y(time - 1, b) : t.h_first + b * t.H;
  }
  const float* c_before(size_t time, size_t b) const {
    if (anew(time, b)) return zeros.data();
    return time ? c(time - 1, b) : t.c_first + b * t.H;
  }

  // What is kept of a token: blocks; then what zoneout replaced, or four numbers of the norms.
  size_t row_size() const { return replaced() + HP; }
  size_t replaced() const { return std::max(cell.KEPT, cell.S + cell.N2) * HP; }
  float* kept(size_t time, size_t b) {
    if (t.kept) return t.kept + (time * t.B + b) * t.kept_size;
    return spare.empty() ? nullptr : spare.data() + b * row_size();
  }
  Blocks blocks(size_t time, size_t b, const Units& units) {
    float* row = kept(time, b);
    return {row ? row + units.at : nullptr, HP};
  }
  float* numbers(size_t time, size_t b) { return kept(time, b) + replaced(); }

  Given given(size_t time, size_t b, const Units& units) const {
    Given g{extra + units.at, HP, t.options, units.get(h_before(time, b)), {}, {}};
    if (cell.MEMORY) g.c = units.get(c_before(time, b));
    if (from_input()) g.alpha = all(alphas[time * t.B + b]);
    return g;
  }

  // Where a block ends at this token: the state at its start; else nullptr.
  const float* block_start(size_t time, size_t b) const {
    return t.block_size ? start(starts[time * t.B + b], b) : nullptr;
  }
  void last_blocks() const {
    for (size_t b = 0; b < (t.block_size ? t.B : 0); b++) {
      std::memcpy(t.start_last + b * t.H, start(last[b], b), t.H * sizeof(float));
      t.steps_last[b] = steps[b];
    }
  }

  bool from_input() const { return cell.ALPHA >= 0 && t.options & Skip::FROM_INPUT; }
  const float* w_alpha() const { return t.weights.w_x + cell.SX * t.H * t.I; }
  // How much of h goes past the gates, for the tokens of this thread.
  void alphas_of(int thread) {
    const Share mine = share(alphas.size(), thread, t.threads);
    const V bias = all(alphas.empty() ? 0.0f : t.weights.bias[(cell.S + cell.N2) * t.H]);
    for (size_t k = mine.begin; k < mine.end; k++) {
      const float *v = x(k / t.B, k % t.B), *w = w_alpha();
      V products{};
      size_t i = 0;
      for (; i + W <= t.I; i += W) products += load(v + i) * load(w + i);
      if (i < t.I) products += load_part(v + i, t.I - i) * load_part(w + i, t.I - i);
      const double logit = Moments::of(&products, &products, 1).first;
      alphas[k] = sigmoid(all(static_cast<float>(logit)) + bias)[0];
    }
  }

  // Sums over the row's units, in their order.
  Moments summed(int which, size_t row) const {
    Moments sum{};
    for (size_t u = 0; u < U; u++) {
      const Moments& m = moments[which][row * U + u];
      sum.first += m.first, sum.second += m.second;
    }
    return sum;
  }
  Normal normal(int which, size_t row, size_t count) const {
    const Moments sum = summed(which, row);
    const double mean = sum.first / count;
    const double variance = std::max(0.0, sum.second / count - mean * mean);
    return {static_cast<float>(mean), static_cast<float>(1 / std::sqrt(variance + 1e-5))};
  }

  // This thread's rows: whole groups, about equally many tokens.
  Share rows(int thread) const { return {border(thread), border(thread + 1)}; }

  const StepCall& t;
  const StepLayout cell;
  const size_t HP, U;
  const float* extra;  // (EXTRA, HP)
  // Of x's and h's accumulators and of c, (B, U) each; of the step that is being computed.
  std::vector<Moments> moments[3];
  std::vector<float> alphas;  // (T, B)

 private:
  // Where the start of a block is: at a time in y, or one of these.
  static constexpr int32_t GIVEN = -1, ZERO = -2, GOES_ON = -3;

  void find_blocks() {
    starts.assign(t.T * t.B, GOES_ON);
    zeros.resize(t.H);
    steps.assign(t.steps_first, t.steps_first + t.B);
    last.assign(t.B, GIVEN);
    for (size_t row = 0; row < t.B; row++) {
      const size_t b = place(row);
      for (size_t time = 0; time < length(row); time++) {
        if (anew(time, b)) last[b] = ZERO, steps[b] = 0;
        if (++steps[b] != t.block_size) continue;
        starts[time * t.B + b] = last[b];
        last[b] = static_cast<int32_t>(time), steps[b] = 0;
      }
    }
  }
  const float* start(int32_t at, size_t b) const {
    if (at == GOES_ON) return nullptr;
    return at == ZERO ? zeros.data() : at == GIVEN ? t.start_first + b * t.H : y(at, b);
  }

  size_t border(int thread) const {
    const size_t groups = (t.B + GROUP - 1) / GROUP;
    if (!t.lengths) return std::min(t.B, groups * thread / t.threads * GROUP);
    size_t total = 0, seen = 0, b = 0;
    for (size_t k = 0; k < t.B; k++) total += t.lengths[k];
    for (; b < t.B && seen * t.threads < total * thread; b += GROUP)
      for (size_t k = b; k < std::min(t.B, b + GROUP); k++) seen += t.lengths[k];
    return std::min(b, t.B);
  }

  std::vector<float> zeros, padded_extra, spare;
  std::vector<int32_t> starts, last;
  std::vector<int64_t> steps;
};

}  // namespace TR_TARGET
