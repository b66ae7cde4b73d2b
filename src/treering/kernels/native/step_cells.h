// One step of each cell, W units at a time: forward, and its derivative.
//
// A cell says how its matrix products are laid out and what becomes of them:
//   S, N2   accumulators that a unit has in the first product, and in a second one
//   SX, SH  blocks that x and h meet; x's are the accumulators 0.., h's the accumulators OH..
//   UV      vectors of units that share a panel, so that a tile fills the registers
//   KEPT    blocks that forward keeps for backward
//   EXTRA   vectors of H numbers beside the matrices, whose gradients are summed over the tokens
//   ALPHA   the one among them that the input may give instead, a number a token; or none
//
// backward gets the gradients that reach h and c and turns the kept blocks into those of the
// accumulators. Cells with a memory are gates with one way to use them, `MemoryStep`; `Normed`
// is any cell with layer norm.
//
// Legend: H hidden, HP hidden rounded up to vectors.
#pragma once
#include "gates.h"

namespace TR_TARGET {

// What a step is given beside its accumulators.
struct Given {
  const float* extra;  // of these units; the vectors lie HP apart
  size_t HP;
  int options;
  V h, c;   // before the step
  V alpha;  // of this token, under FROM_INPUT
  V fixed(int e) const { return load(extra + e * HP); }
};

// Blocks of these units: accumulators or what is kept of them.
struct Blocks {
  float* at;
  size_t stride;
  V operator[](int s) const { return load(at + s * stride); }
  void put(int s, V v) const { store(at + s * stride, v); }
  explicit operator bool() const { return at; }
  Blocks from(int s) const { return {at + s * stride, stride}; }
};

struct After {
  V h, c{};
};
struct Reaching {
  V h, c;
};
// What a step gives to the state before it, the matrices aside.
struct Past {
  V h{}, c{};
};

// What every cell is unless it says otherwise.
struct StepDefaults {
  static constexpr int N2 = 0, OH = 0, EXTRA = 0, ALPHA = -1;
  static constexpr bool MEMORY = false, DIRECT = false, NORMED = false;
  static constexpr int x_blocks[] = {0, 1, 2, 3, 4, 5, 6, 7};
};

// Accumulators x's n, r, z, h's n: the candidate's two parts meet behind the reset gate.
struct GRUStep : StepDefaults {
  static constexpr int S = 4, UV = 1, SX = 3, SH = 3, OH = 1, KEPT = 4;
  static constexpr bool DIRECT = true;
  static constexpr int x_blocks[] = {2, 0, 1};

  static After forward(const Given& g, Blocks z, Blocks kept) {
    const V reset = sigmoid(z[1]), keep = sigmoid(z[2]), n = tanh(z[0] + reset * z[3]);
    if (kept) kept.put(0, n), kept.put(1, reset), kept.put(2, keep), kept.put(3, z[3]);
    return {n + keep * (g.h - n)};
  }

  static Past backward(const Given& g, Blocks kept, const After&, const Reaching& d, V*) {
    const V n = kept[0], reset = kept[1], keep = kept[2];
    const V dn = d.h * (all(1.0f) - keep) * slope_of_tanh(n);
    kept.put(0, dn);
    kept.put(1, dn * kept[3] * slope(reset));
    kept.put(2, d.h * (g.h - n) * slope(keep));
    kept.put(3, dn * reset);
    return {d.h * keep};
  }
};

// Nothing is kept: the slope can be told from h.
struct RNNStep : StepDefaults {
  static constexpr int S = 1, UV = 4, SX = 1, SH = 1, KEPT = 0;
  static constexpr int RELU = 1;

  static After forward(const Given& g, Blocks z, Blocks) {
    // As in PyTorch, NaN stays NaN.
    return {g.options & RELU ? choose(z[0] < all(0.0f), V{}, z[0]) : tanh(z[0])};
  }

  static Past backward(const Given& g, Blocks kept, const After& after, const Reaching& d, V*) {
    const V h = after.h;
    kept.put(0, g.options & RELU ? choose(h > all(0.0f), d.h, V{}) : d.h * slope_of_tanh(h));
    return {};
  }
};

// Gates of the input alone, so h meets no matrix.
struct MinGRUStep : StepDefaults {
  static constexpr int S = 2, UV = 2, SX = 2, SH = 0, KEPT = 2;
  static constexpr bool DIRECT = true;

  static After forward(const Given& g, Blocks z, Blocks kept) {
    if (kept) kept.put(0, z[0]), kept.put(1, z[1]);
    // Shares of the old h and of the candidate, each with its own digits.
    return {sigmoid(-z[0]) * g.h + sigmoid(z[0]) * z[1]};
  }

  static Past backward(const Given& g, Blocks kept, const After&, const Reaching& d, V*) {
    const V keep = sigmoid(-kept[0]), take = sigmoid(kept[0]);
    kept.put(0, d.h * (kept[1] - g.h) * keep * take);
    kept.put(1, d.h * take);
    return {d.h * keep};
  }
};

// Accumulators f, i and the candidate; f and i are normalised to sum up to 1.
struct MinLSTMStep : StepDefaults {
  static constexpr int S = 3, UV = 1, SX = 3, SH = 0, KEPT = 3;
  static constexpr bool DIRECT = true;

  // 1 / sigmoid of both gates, by a common factor that leaves nothing infinite, gives their shares.
  struct Shares {
    V keep, take;
    explicit Shares(Blocks z) {
      const V f = -bounded(z[0], 1e30f), i = -bounded(z[1], 1e30f), most_of = most(most(f, i), V{});
      const V one = exp_bounded(-bounded(most_of, 87.0f));
      const V of_f = one + exp_bounded(bounded(f - most_of, 87.0f));
      const V of_i = one + exp_bounded(bounded(i - most_of, 87.0f));
      const V both = over(of_f + of_i);
      keep = of_i * both, take = of_f * both;
    }
  };

  static After forward(const Given& g, Blocks z, Blocks kept) {
    for (int s = 0; kept && s < 3; s++) kept.put(s, z[s]);
    const Shares k(z);
    return {k.keep * g.h + k.take * z[2]};
  }

  static Past backward(const Given& g, Blocks kept, const After&, const Reaching& d, V*) {
    const Shares k(kept);
    const V moved = d.h * (g.h - kept[2]) * k.keep * k.take;
    kept.put(0, moved * sigmoid(-kept[0]));
    kept.put(1, -moved * sigmoid(-kept[1]));
    kept.put(2, d.h * k.take);
    return {d.h * k.keep};
  }
};

// The additive skip of the QL cells: keep * h + (1 - keep) * candidate + alpha * h.
struct Skip {
  static constexpr int BOUNDED = 1, NO_SKIP = 2, FROM_INPUT = 4;

  static V mix(const Given& g, int alpha, V keep, V candidate) {
    const V a = g.options & FROM_INPUT ? g.alpha : g.fixed(alpha);
    const V past = g.options & BOUNDED ? a * (all(1.0f) - keep) : a;
    return candidate + keep * (g.h - candidate) + past * g.h;
  }

  V candidate, keep, past;  // what reaches the candidate, the gate and the old h
  Skip(const Given& g, int alpha, V k, V n, V dh, V* sums) {
    const V a = g.options & FROM_INPUT ? g.alpha : g.fixed(alpha), shut = all(1.0f) - k;
    candidate = dh * shut;
    keep = dh * (g.h - n);
    if (g.options & BOUNDED) {
      keep -= dh * a * g.h;
      past = dh * (k + a * shut);
      sums[alpha] += dh * g.h * shut;
    } else {
      past = dh * (k + a);
      sums[alpha] += dh * g.h;
    }
  }
};

// scale * z + bias of the gates that share blocks; extra has all scales, then all biases.
template <int GATES>
struct Shared {
  V z[GATES], scale[GATES], pre[GATES];
  void of(const Given& g, int gate, V block) {
    z[gate] = block, scale[gate] = g.fixed(gate);
    pre[gate] = scale[gate] * block + g.fixed(GATES + gate);
  }
  // Gradient of the block from that of the gate.
  V back(int gate, V d, V* sums) const {
    sums[gate] += d * z[gate];
    sums[GATES + gate] += d;
    return d * scale[gate];
  }
};

// Accumulators x's blocks, then h's: the candidate's two parts meet behind the reset gate.
template <int BLOCKS>
struct QLGRUStep : StepDefaults {
  static constexpr int S = BLOCKS, N2 = BLOCKS, UV = BLOCKS < 3 ? 4 / BLOCKS : 1;
  static constexpr int SX = BLOCKS, SH = BLOCKS, OH = BLOCKS, KEPT = 2 * BLOCKS;
  static constexpr int EXTRA = 7, ALPHA = 6;
  static constexpr bool DIRECT = true;
  static constexpr int RESET = 0, KEEP = BLOCKS == 3 ? 1 : 0, NEW = BLOCKS - 1;

  struct Gates : Shared<3> {
    V r, u, n, h_n;
    Gates(const Given& g, Blocks z) {
      h_n = z[BLOCKS + NEW];
      of(g, 0, z[RESET] + z[BLOCKS + RESET]);
      of(g, 1, z[KEEP] + z[BLOCKS + KEEP]);
      r = sigmoid(pre[0]), u = sigmoid(pre[1]);
      of(g, 2, z[NEW] + r * h_n);
      n = tanh(pre[2]);
    }
    using Shared<3>::of, Shared<3>::pre;
  };

  static After forward(const Given& g, Blocks z, Blocks kept) {
    const Gates k(g, z);
    if (kept)
      for (int s = 0; s < KEPT; s++) kept.put(s, z[s]);
    return {Skip::mix(g, ALPHA, k.u, k.n)};
  }

  static Past backward(const Given& g, Blocks kept, const After&, const Reaching& d, V* sums) {
    const Gates k(g, kept);
    const Skip skip(g, ALPHA, k.u, k.n, d.h, sums);
    const V both = k.back(2, skip.candidate * slope_of_tanh(k.n), sums);
    V dz[BLOCKS] = {}, dz_h[BLOCKS] = {};
    dz[NEW] += both, dz_h[NEW] += both * k.r;
    const V dr = k.back(0, both * k.h_n * slope(k.r), sums);
    const V du = k.back(1, skip.keep * slope(k.u), sums);
    dz[RESET] += dr, dz_h[RESET] += dr;
    dz[KEEP] += du, dz_h[KEEP] += du;
    for (int s = 0; s < BLOCKS; s++) kept.put(s, dz[s]), kept.put(BLOCKS + s, dz_h[s]);
    return {skip.past};
  }
};

template <int BLOCKS>
struct QLRNNStep : StepDefaults {
  static constexpr int S = BLOCKS, UV = 4 / BLOCKS, SX = BLOCKS, SH = BLOCKS, KEPT = BLOCKS;
  static constexpr int EXTRA = 5, ALPHA = 4;
  static constexpr bool DIRECT = true;

  struct Gates : Shared<2> {
    V n, f;
    Gates(const Given& g, Blocks z) {
      of(g, 0, z[0]), of(g, 1, z[BLOCKS - 1]);
      n = tanh(pre[0]), f = sigmoid(pre[1]);
    }
    using Shared<2>::of, Shared<2>::pre;
  };

  static After forward(const Given& g, Blocks z, Blocks kept) {
    const Gates k(g, z);
    if (kept)
      for (int s = 0; s < BLOCKS; s++) kept.put(s, z[s]);
    return {g.options & Skip::NO_SKIP ? k.n : Skip::mix(g, ALPHA, k.f, k.n)};
  }

  static Past backward(const Given& g, Blocks kept, const After&, const Reaching& d, V* sums) {
    const Gates k(g, kept);
    V dn = d.h, df{}, past{};
    if (!(g.options & Skip::NO_SKIP)) {
      const Skip skip(g, ALPHA, k.f, k.n, d.h, sums);
      dn = skip.candidate, df = skip.keep, past = skip.past;
    }
    V dz[BLOCKS] = {};
    dz[0] += k.back(0, dn * slope_of_tanh(k.n), sums);
    dz[BLOCKS - 1] += k.back(1, df * slope(k.f), sums);
    for (int s = 0; s < BLOCKS; s++) kept.put(s, dz[s]);
    return {past};
  }
};

// Gates i, f, g, o as they are; they themselves are kept.
struct LSTMGates : StepDefaults {
  static constexpr int S = 4, UV = 1, SX = 4, SH = 4, KEPT = 4;

  V i, f, g, o;
  LSTMGates(const Given&, Blocks z)
      : i(sigmoid(z[0])), f(sigmoid(z[1])), g(tanh(z[2])), o(sigmoid(z[3])) {}
  explicit LSTMGates(Blocks kept) : i(kept[0]), f(kept[1]), g(kept[2]), o(kept[3]) {}
  static LSTMGates again(const Given&, Blocks kept) { return LSTMGates(kept); }

  void keep(Blocks, Blocks kept) const {
    kept.put(0, i), kept.put(1, f), kept.put(2, g), kept.put(3, o);
  }
  V mix(const Given&, V candidate) const { return candidate; }

  struct Mixed {
    V candidate, keep{}, past{};
  };
  static Mixed back(const Given&, const LSTMGates&, V, V dh, V*) { return {dh}; }
  void spread(const Given&, const V (&pre)[4], Blocks, Blocks out, V*) const {
    for (int s = 0; s < 4; s++) out.put(s, pre[s]);
  }
};

// N of the gates see a rectified map as well; which ones is in the options, two bits each.
template <int N>
struct NonlinearGates : LSTMGates {
  static constexpr int N2 = N, SX = 4 + N, SH = 4 + N, KEPT = 4 + N;

  struct Bent {
    float pre[4 * W];
    Bent(const Given& given, Blocks z) {
      for (int s = 0; s < 4; s++) store(pre + s * W, z[s]);
      for (int n = 0; n < N; n++) {
        float* to = pre + gate(given, n) * W;
        store(to, load(to) + rectified(z[4 + n]));
      }
    }
  };
  static int gate(const Given& given, int n) { return given.options >> 2 * n & 3; }
  static V rectified(V bend) { return choose(bend < all(0.0f), V{}, bend); }

  NonlinearGates(const Given& given, Blocks z)
      : LSTMGates(given, {Bent(given, z).pre, W}) {}
  explicit NonlinearGates(Blocks kept) : LSTMGates(kept) {}
  static NonlinearGates again(const Given&, Blocks kept) { return NonlinearGates(kept); }

  void keep(Blocks z, Blocks kept) const {
    LSTMGates::keep(z, kept);
    for (int n = 0; n < N; n++) kept.put(4 + n, rectified(z[4 + n]));
  }
  void spread(const Given& given, const V (&pre)[4], Blocks kept, Blocks out, V* sums) const {
    LSTMGates::spread(given, pre, kept, out, sums);
    for (int n = 0; n < N; n++)
      out.put(4 + n, choose(kept[4 + n] > all(0.0f), out[gate(given, n)], V{}));
  }
};

// Blocks of the affine map shared by the four gates; the blocks are kept.
template <int BLOCKS>
struct QLGates : StepDefaults, Shared<4> {
  static constexpr int S = BLOCKS, UV = 4 / BLOCKS, SX = BLOCKS, SH = BLOCKS, KEPT = BLOCKS;
  static constexpr int EXTRA = 9, ALPHA = 8;
  static constexpr bool DIRECT = true;

  static constexpr int block(int gate) {
    return BLOCKS == 4 ? gate : BLOCKS == 2 && gate == 2 ? 1 : 0;
  }

  V i, f, g, o;
  QLGates(const Given& given, Blocks from) {
    for (int k = 0; k < 4; k++) this->of(given, k, from[block(k)]);
    const V* pre = this->pre;
    i = sigmoid(pre[0]), f = sigmoid(pre[1]), g = tanh(pre[2]), o = sigmoid(pre[3]);
  }
  static QLGates again(const Given& given, Blocks kept) { return QLGates(given, kept); }

  void keep(Blocks from, Blocks kept) const {
    for (int s = 0; s < BLOCKS; s++) kept.put(s, from[s]);
  }
  V mix(const Given& given, V candidate) const {
    return given.options & Skip::NO_SKIP ? candidate : Skip::mix(given, ALPHA, f, candidate);
  }

  using Mixed = LSTMGates::Mixed;
  static Mixed back(const Given& given, const QLGates& k, V candidate, V dh, V* sums) {
    if (given.options & Skip::NO_SKIP) return {dh};
    const Skip skip(given, ALPHA, k.f, candidate, dh, sums);
    return {skip.candidate, skip.keep, skip.past};
  }
  void spread(const Given&, const V (&pre)[4], Blocks, Blocks out, V* sums) const {
    V dz[BLOCKS] = {};
    for (int k = 0; k < 4; k++) dz[block(k)] += Shared<4>::back(k, pre[k], sums);
    for (int s = 0; s < BLOCKS; s++) out.put(s, dz[s]);
  }
};

// c' = f c + i g, of which o lets tanh through; what becomes of that the gates say.
template <class G>
struct MemoryStep : G {
  using Gates = G;
  static constexpr bool MEMORY = true;

  static V memory(const Given& given, const G& k) { return k.f * given.c + k.i * k.g; }

  static After forward(const Given& given, Blocks z, Blocks kept) {
    const G k(given, z);
    const V c = memory(given, k);
    if (kept) k.keep(z, kept);
    return {k.mix(given, k.o * tanh(c)), c};
  }

  static Past backward(const Given& given, Blocks kept, const After& after, const Reaching& d,
                       V* sums) {
    const G k = G::again(given, kept);
    const V read = tanh(after.c);
    const auto of = G::back(given, k, k.o * read, d.h, sums);
    const V dc = d.c + of.candidate * k.o * slope_of_tanh(read);
    return {of.past, gates(given, k, read, of, dc, kept, kept, sums)};
  }

  // From the gradient of c': the gates', and what is returned, that of the old c.
  static V gates(const Given& given, const G& k, V read, const typename G::Mixed& of, V dc,
                 Blocks kept, Blocks out, V* sums) {
    const V pre[4] = {dc * k.g * slope(k.i), (of.keep + dc * given.c) * slope(k.f),
                      dc * k.i * slope_of_tanh(k.g), of.candidate * read * slope(k.o)};
    k.spread(given, pre, kept, out, sums);
    return dc * k.f;
  }
};

// A cell with layer norm: W_x x and W_h h are accumulated apart and each normalised over all its
// rows; C sees what comes of it. extra: C's, gains of x's and of h's accumulators, biases of C's
// accumulators, and with a memory gain and shift of the c that the output gate reads.
template <class C>
struct Normed : C {
  using Cell = C;
  static constexpr int S = C::SX, N2 = C::SH, UV = C::SX < 3 ? 4 / C::SX : 1;
  static constexpr int OH = C::SX, KEPT = C::SX + C::SH;
  static constexpr int GAINS = C::EXTRA, BIASES = GAINS + KEPT, READ = BIASES + C::S;
  static constexpr int EXTRA = READ + (C::MEMORY ? 2 : 0);
  static constexpr bool NORMED = true;

  // C's accumulators from the normalised ones.
  static void pre(const Given& g, Blocks hats, Blocks out) {
    for (int a = 0; a < C::S; a++) {
      V z = g.fixed(BIASES + a);
      if (a < C::SX) z += g.fixed(GAINS + a) * hats[a];
      if (of_h(a)) z += g.fixed(GAINS + of_hat(a)) * hats[of_hat(a)];
      out.put(a, z);
    }
  }
  static constexpr bool of_h(int a) { return a >= C::OH && a < C::OH + C::SH; }
  static constexpr int of_hat(int a) { return C::SX + a - C::OH; }
  // The accumulator of C that a normalised one enters.
  static constexpr int enters(int hat) { return hat < C::SX ? hat : hat - C::SX + C::OH; }
};

}  // namespace TR_TARGET
