// One step of each cell, W units at a time: forward, and its derivative.
//
// A cell says how its matrix products are laid out and what becomes of them:
//   S       accumulators a unit has; N2 of them more in a second product (rectified gates)
//   UV      vectors of units that share a panel, so that a tile fills the registers
//   SX, SH  blocks that x and h meet; x's are the accumulators 0.., h's the accumulators OH..
//   KEPT    blocks that forward keeps for backward
//   EXTRA   vectors of H numbers beside the matrices; SUMS: gradients of the like, summed by rows
//
// backward gets the gradient that reaches h and turns the kept blocks into the gradients of the
// S + N2 accumulators; `direct` is what reaches the old h past the matrices.
//
// Legend: B batch, H hidden, HP hidden rounded up to vectors.
#pragma once
#include "gates.h"

namespace TR_TARGET {

// What one row of the batch reads and writes at one time step.
struct StepRow {
  const float *h_before, *c_before;
  float *h, *c, *kept;
};

struct BackRow {
  const float *h_before, *c_before, *h, *c;
  float *kept, *direct, *dc;  // dc: in, what reaches c; out, what reaches the old c
};

struct StepCell {
  size_t HP;
  const float* extra;  // (EXTRA, HP)
  int options;
};

struct LSTMStep {
  static constexpr int S = 4, N2 = 0, UV = 1, SX = 4, SH = 4, OH = 0;
  static constexpr int KEPT = 4, EXTRA = 0, SUMS = 0;
  static constexpr bool MEMORY = true, DIRECT = false;
  static constexpr int x_blocks[] = {0, 1, 2, 3};

  static void forward(const StepCell& cell, const Units& u, const StepRow& r, const float* z) {
    const V i = sigmoid(load(z)), f = sigmoid(load(z + W));
    const V g = tanh(load(z + 2 * W)), o = sigmoid(load(z + 3 * W));
    const V c = f * u.get(r.c_before) + i * g;
    u.put(r.c, c);
    u.put(r.h, o * tanh(c));
    if (r.kept) {
      float* kept = r.kept + u.at;
      store(kept, i), store(kept + cell.HP, f);
      store(kept + 2 * cell.HP, g), store(kept + 3 * cell.HP, o);
    }
  }

  static void backward(const StepCell& cell, const Units& u, const BackRow& r, V dh, V*) {
    float* kept = r.kept + u.at;
    const size_t HP = cell.HP;
    const V i = load(kept), f = load(kept + HP);
    const V g = load(kept + 2 * HP), o = load(kept + 3 * HP);
    const V read = tanh(u.get(r.c));
    const V dc = u.get(r.dc) + dh * o * slope_of_tanh(read);
    store(kept, dc * g * slope(i));
    store(kept + HP, dc * u.get(r.c_before) * slope(f));
    store(kept + 2 * HP, dc * i * slope_of_tanh(g));
    store(kept + 3 * HP, dh * read * slope(o));
    u.put(r.dc, dc * f);
  }
};

// Accumulators x's n, r, z, h's n: the candidate's two parts meet behind the reset gate.
struct GRUStep {
  static constexpr int S = 4, N2 = 0, UV = 1, SX = 3, SH = 3, OH = 1;
  static constexpr int KEPT = 4, EXTRA = 0, SUMS = 0;
  static constexpr bool MEMORY = false, DIRECT = true;
  static constexpr int x_blocks[] = {2, 0, 1};

  static void forward(const StepCell& cell, const Units& u, const StepRow& r, const float* z) {
    const V reset = sigmoid(load(z + W)), keep = sigmoid(load(z + 2 * W)), h_n = load(z + 3 * W);
    const V n = tanh(load(z) + reset * h_n);
    u.put(r.h, n + keep * (u.get(r.h_before) - n));
    if (r.kept) {
      float* kept = r.kept + u.at;
      store(kept, n), store(kept + cell.HP, reset);
      store(kept + 2 * cell.HP, keep), store(kept + 3 * cell.HP, h_n);
    }
  }

  static void backward(const StepCell& cell, const Units& u, const BackRow& r, V dh, V*) {
    float* kept = r.kept + u.at;
    const size_t HP = cell.HP;
    const V n = load(kept), reset = load(kept + HP), keep = load(kept + 2 * HP);
    const V dn = dh * (all(1.0f) - keep) * slope_of_tanh(n);
    store(kept, dn);
    store(kept + HP, dn * load(kept + 3 * HP) * slope(reset));
    store(kept + 2 * HP, dh * (u.get(r.h_before) - n) * slope(keep));
    store(kept + 3 * HP, dn * reset);
    u.put(r.direct, dh * keep);
  }
};

// Nothing is kept: the slope can be told from h.
struct RNNStep {
  static constexpr int S = 1, N2 = 0, UV = 4, SX = 1, SH = 1, OH = 0;
  static constexpr int KEPT = 0, EXTRA = 0, SUMS = 0;
  static constexpr bool MEMORY = false, DIRECT = false;
  static constexpr int x_blocks[] = {0};
  static constexpr int RELU = 1;

  static void forward(const StepCell& cell, const Units& u, const StepRow& r, const float* z) {
    const V v = load(z);
    // As in PyTorch, NaN stays NaN.
    u.put(r.h, cell.options & RELU ? choose(v < all(0.0f), V{}, v) : tanh(v));
  }

  static void backward(const StepCell& cell, const Units& u, const BackRow& r, V dh, V*) {
    const V h = u.get(r.h);
    const V d = cell.options & RELU ? choose(h > all(0.0f), dh, V{}) : dh * slope_of_tanh(h);
    store(r.kept + u.at, d);
  }
};

// Blocks of the affine map shared by gates i, f, g, o; scale and bias of each gate, and alpha.
template <int BLOCKS>
struct QLLSTMStep {
  static constexpr int S = BLOCKS, N2 = 0, UV = 4 / BLOCKS, SX = BLOCKS, SH = BLOCKS, OH = 0;
  static constexpr int KEPT = BLOCKS, EXTRA = 9, SUMS = 9;
  static constexpr bool MEMORY = true, DIRECT = true;
  static constexpr int x_blocks[] = {0, 1, 2, 3};
  static constexpr int BOUNDED = 1, NO_SKIP = 2;

  static constexpr int block(int gate) {
    return BLOCKS == 4 ? gate : BLOCKS == 2 && gate == 2 ? 1 : 0;
  }

  struct Gates {
    V z[4], scale[4], i, f, g, o, alpha;
    Gates(const StepCell& cell, const Units& u, const float* from, size_t stride) {
      const float* extra = cell.extra + u.at;
      V pre[4];
      for (int k = 0; k < 4; k++) {
        z[k] = load(from + block(k) * stride);
        scale[k] = load(extra + k * cell.HP);
        pre[k] = scale[k] * z[k] + load(extra + (4 + k) * cell.HP);
      }
      i = sigmoid(pre[0]), f = sigmoid(pre[1]), g = tanh(pre[2]), o = sigmoid(pre[3]);
      alpha = load(extra + 8 * cell.HP);
    }
  };

  static void forward(const StepCell& cell, const Units& u, const StepRow& r, const float* from) {
    const Gates k(cell, u, from, W);
    const V c = k.f * u.get(r.c_before) + k.i * k.g, candidate = k.o * tanh(c);
    u.put(r.c, c);
    if (cell.options & NO_SKIP) {
      u.put(r.h, candidate);
    } else {
      const V past = cell.options & BOUNDED ? k.alpha * (all(1.0f) - k.f) : k.alpha;
      const V h = u.get(r.h_before);
      u.put(r.h, candidate + k.f * (h - candidate) + past * h);
    }
    if (r.kept)
      for (int s = 0; s < BLOCKS; s++) store(r.kept + s * cell.HP + u.at, load(from + s * W));
  }

  static void backward(const StepCell& cell, const Units& u, const BackRow& r, V dh, V* sums) {
    float* kept = r.kept + u.at;
    const Gates k(cell, u, kept, cell.HP);
    const V one = all(1.0f), read = tanh(u.get(r.c)), candidate = k.o * read;
    V of_candidate = dh, df{}, direct{};
    if (!(cell.options & NO_SKIP)) {
      const V h = u.get(r.h_before), shut = one - k.f;
      of_candidate = dh * shut;
      df = dh * (h - candidate);
      if (cell.options & BOUNDED) {
        df -= dh * k.alpha * h;
        direct = dh * (k.f + k.alpha * shut);
        sums[8] += dh * h * shut;
      } else {
        direct = dh * (k.f + k.alpha);
        sums[8] += dh * h;
      }
    }
    const V dc = u.get(r.dc) + of_candidate * k.o * slope_of_tanh(read);
    df += dc * u.get(r.c_before);
    const V pre[4] = {dc * k.g * slope(k.i), df * slope(k.f), dc * k.i * slope_of_tanh(k.g),
                      of_candidate * read * slope(k.o)};
    V dz[BLOCKS] = {};
    for (int gate = 0; gate < 4; gate++) {
      sums[gate] += pre[gate] * k.z[gate];
      sums[4 + gate] += pre[gate];
      dz[block(gate)] += pre[gate] * k.scale[gate];
    }
    for (int s = 0; s < BLOCKS; s++) store(kept + s * cell.HP, dz[s]);
    u.put(r.direct, direct);
    u.put(r.dc, dc * k.f);
  }
};

// N of the gates see a rectified map as well; which ones is in the options, two bits each.
template <int N>
struct NonlinearGateStep {
  static constexpr int S = 4, N2 = N, UV = 1, SX = 4 + N, SH = 4 + N, OH = 0;
  static constexpr int KEPT = 4 + N, EXTRA = 0, SUMS = 0;
  static constexpr bool MEMORY = true, DIRECT = false;
  static constexpr int x_blocks[] = {0, 1, 2, 3, 4, 5, 6, 7};

  static int gate(const StepCell& cell, int n) { return cell.options >> 2 * n & 3; }

  static void forward(const StepCell& cell, const Units& u, const StepRow& r, const float* z) {
    float pre[4 * W], bends[N * W];
    std::memcpy(pre, z, sizeof pre);
    for (int n = 0; n < N; n++) {
      const V bend = load(z + (4 + n) * W);
      store(bends + n * W, choose(bend < all(0.0f), V{}, bend));
      float* to = pre + gate(cell, n) * W;
      store(to, load(to) + load(bends + n * W));
    }
    LSTMStep::forward(cell, u, r, pre);
    if (r.kept)
      for (int n = 0; n < N; n++)
        store(r.kept + (4 + n) * cell.HP + u.at, load(bends + n * W));
  }

  static void backward(const StepCell& cell, const Units& u, const BackRow& r, V dh, V* sums) {
    LSTMStep::backward(cell, u, r, dh, sums);
    for (int n = 0; n < N; n++) {
      float* bend = r.kept + (4 + n) * cell.HP + u.at;
      const V d = load(r.kept + gate(cell, n) * cell.HP + u.at);
      store(bend, choose(load(bend) > all(0.0f), d, V{}));
    }
  }
};

}  // namespace TR_TARGET
