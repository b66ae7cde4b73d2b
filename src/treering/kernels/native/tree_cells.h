// The pointwise parts of merging cells, W units of one row at a time: forward and derivative.
//
// A cell has three kinds of map, told apart by the states P that they take up: a leaf none, a
// refinement one, a merge two. It says
//   gates(P)  accumulators that a unit of the map has, the blocks of H rows of its matrix
//   UV        vectors of units that share a panel, so that a tile fills the registers
//   MEMORY    whether a state has c beside h
//   ACTIVE(P) whether `backward` reads what `forward` made of the accumulators
//   KEPT      blocks that training keeps of a merge; `again` makes the merge's state of them,
//             before any refinement
// A state's h, and what is kept of gates, are numbers of type E; all else is float.
// backward gets the gradients that reach a state and gives those of the accumulators and of the
// c that were taken up.
//
// Legend: P states taken up, H hidden.
#pragma once
#include "gates.h"

namespace TR_TARGET {

// What a map reads and writes in one row; c and all of c are nullptr in cells without memory.
template <class E>
struct TreeRow {
  const float* before[2];  // c of the states that are taken up
  E* h;                    // the new state, or nullptr where nobody wants it
  float* c;
  E* active;               // (gates, H) or nullptr
};

template <class E>
struct TreeBackRow {
  const float* before[2];
  const E* h;              // the new state
  const float* c;
  const E* active;         // as forward left it
  const float *dh, *dc;    // what reaches the new state
  E* dz;                   // (gates, H), may be `active`
  float* dbefore[2];       // what reaches `before`; may be dc
};

struct PRLSTMTree {
  static constexpr int gates(int P) { return 3 + P; }
  static constexpr int UV = 1;
  static constexpr size_t KEPT = 5;
  static constexpr bool MEMORY = true;
  static constexpr bool ACTIVE(int) { return true; }

  template <int P>
  static V remembered(const Units& u, const float* const* before, const V* f) {
    if constexpr (P == 1) return f[0] * u.get(before[0]);
    return f[0] * u.get(before[0]) + f[1] * u.get(before[1]);
  }

  template <int P, class E>
  static void forward(const Units& u, size_t H, const TreeRow<E>& r, const float* z) {
    using F = Functions<E>;
    const V i = F::sigmoid(load(z)), g = F::tanh(load(z + W)), o = F::sigmoid(load(z + 2 * W));
    V f[P + 1], c = i * g;
    for (int p = 0; p < P; p++) f[p] = F::sigmoid(load(z + (3 + p) * W));
    if constexpr (P > 0) c = remembered<P>(u, r.before, f) + i * g;
    if (r.h) {
      u.put(r.c, c);
      u.put(r.h, o * F::tanh(c));
    }
    if (r.active) {
      u.put(r.active, i), u.put(r.active + H, g), u.put(r.active + 2 * H, o);
      for (int p = 0; p < P; p++) u.put(r.active + (3 + p) * H, f[p]);
    }
  }

  template <class E>
  static void again(const Units& u, size_t H, const TreeRow<E>& r) {
    const E* kept = r.active;
    const V f[] = {u.get(kept + 3 * H), u.get(kept + 4 * H)};
    const V c = remembered<2>(u, r.before, f) + u.get(kept) * u.get(kept + H);
    u.put(r.c, c);
    u.put(r.h, u.get(kept + 2 * H) * Functions<E>::tanh(c));
  }

  template <int P, class E>
  static void backward(const Units& u, size_t H, const TreeBackRow<E>& r) {
    const V i = u.get(r.active), g = u.get(r.active + H), o = u.get(r.active + 2 * H);
    const V read = Functions<E>::tanh(u.get(r.c)), h = u.get(r.dh);
    const V c = u.get(r.dc) + h * o * slope_of_tanh(read);
    V f[P + 1];
    for (int p = 0; p < P; p++) f[p] = u.get(r.active + (3 + p) * H);
    u.put(r.dz, c * g * slope(i));
    u.put(r.dz + H, c * i * slope_of_tanh(g));
    u.put(r.dz + 2 * H, h * read * slope(o));
    for (int p = 0; p < P; p++) {
      u.put(r.dz + (3 + p) * H, c * u.get(r.before[p]) * slope(f[p]));
      u.put(r.dbefore[p], c * f[p]);
    }
  }
};

// A leaf is linear, all else rectified; slopes can be told from h.
struct PRRNNTree {
  static constexpr int gates(int) { return 1; }
  static constexpr int UV = 4;
  static constexpr size_t KEPT = 1;
  static constexpr bool MEMORY = false;
  static constexpr bool ACTIVE(int) { return false; }

  template <int P, class E>
  static void forward(const Units& u, size_t, const TreeRow<E>& r, const float* from) {
    const V z = load(from);
    // As in PyTorch, NaN stays NaN, and its slope is 1.
    const V h = P > 0 ? choose(z < all(0.0f), V{}, z) : z;
    if (r.h) u.put(r.h, h);
    if (r.active) u.put(r.active, h);
  }

  template <class E>
  static void again(const Units& u, size_t, const TreeRow<E>& r) { u.put(r.h, u.get(r.active)); }

  template <int P, class E>
  static void backward(const Units& u, size_t, const TreeBackRow<E>& r) {
    const V d = u.get(r.dh);
    u.put(r.dz, P > 0 ? choose(u.get(r.h) <= all(0.0f), V{}, d) : d);
  }
};

}  // namespace TR_TARGET
