// Gradients of a step cell's sequence, from what StepForward kept.
//
// Time runs backwards: the pointwise part turns what was kept of a token into the gradients of its
// accumulators, of which the product with W_h is what reaches the token before. With layer norm
// the pointwise part has phases, each of which needs sums over all units of a row. Products over
// all tokens, which nothing waits for, come last.
//
// Legend: B batch, T time, I input, H hidden, HP hidden rounded up to vectors, S accumulators.
#pragma once
#include "step.h"

namespace TR_TARGET {

// One phase of the pointwise part, for rows of one group.
using Pointwise = void (*)(class StepBackward& s, size_t time, Share group, Share columns);

struct BackwardKernel {
  StepLayout layout;
  Pointwise phases[3];
};

class StepBackward {
 public:
  StepBackward(const StepCall& call, const StepBack& back, const BackwardKernel& k)
      : at(call, k.layout),
        t(call),
        b(back),
        kernel(k),
        cell(at.cell),
        HP(at.HP),
        barrier(t.threads),
        scratch(t.threads) {
    // Threads allocate nothing, or there would be nobody to tell that memory is short.
    for (auto& s : scratch) s.resize(outer_scratch({t.I, t.H}));
    if (b.dw_x) std::fill_n(b.dw_x, (cell.SX * t.H + at.from_input()) * t.I, 0.0f);
    if (b.dw_h) std::fill_n(b.dw_h, cell.SH * t.H * t.H, 0.0f);
    w_h.resize(packed_columns(cell.SH * HP, t.H));
    pack_padded(t.weights.w_h, t.H, t.H, ordered, cell.SH, w_h.data());
    if (b.dx) {
      w_x.resize(packed_columns(cell.SX * HP, t.I));
      pack_padded(t.weights.w_x, t.H, t.I, cell.x_blocks, cell.SX, w_x.data());
    }
    const size_t state = t.B * t.H;
    auto begin = [&](std::vector<float>& rows, const float* last, bool wanted) {
      rows.assign(wanted ? state : 0, 0.0f);
      if (last && wanted) std::memcpy(rows.data(), last, state * sizeof(float));
    };
    begin(dh, b.dh_last, true);
    begin(dc, b.dc_last, cell.MEMORY);
    begin(dstart, b.dstart_last, t.block_size > 0);
    direct.assign(cell.DIRECT || t.zoneout > 0 ? state : 0, 0.0f);
    normalised.resize(cell.NORMED ? t.B * cell.KEPT * HP : 0);
    sums.assign((t.B + GROUP - 1) / GROUP * cell.EXTRA * HP, 0.0);
    bias_sums.assign(b.dbias ? (cell.S + cell.N2) * HP : 0, 0.0);
    if (at.from_input()) {
      dlogits.assign(t.T * t.B, 0.0f);
      dalphas.resize(2 * t.B * at.U);
      dw_alpha.assign(t.I, 0.0);
    }
    if (t.lengths)
      for (size_t time = 0; time < t.T; time++)
        for (size_t row = 0, end = at.active(time, t.B); row < end; row++)
          tokens.push_back(time * t.B + at.place(row));
  }

  void run() {
    on_threads(t.threads, [this](int thread) {
      if (at.from_input()) {
        at.alphas_of(thread);
        barrier.wait();
      }
      through_time(thread);
      barrier.wait();
      inputs(thread);
      weights(thread);
    });
    const size_t state = t.B * t.H;
    for (size_t i = 0; i < state; i++) b.dh_first[i] = dh[i] + (direct.empty() ? 0.0f : direct[i]);
    if (cell.MEMORY) std::memcpy(b.dc_first, dc.data(), state * sizeof(float));
    if (t.block_size) std::memcpy(b.dstart_first, dstart.data(), state * sizeof(float));
    if (!b.dextra) return;
    const size_t of_group = cell.EXTRA * HP;
    for (size_t m = 0; m < of_group; m++) {
      double sum = 0;
      for (size_t k = m; k < sums.size(); k += of_group) sum += sums[k];
      if (m % HP < t.H) b.dextra[m / HP * t.H + m % HP] = static_cast<float>(sum);
    }
  }

  // Below, for the phases. Sums of extra's gradients over the rows of a group, (EXTRA, HP).
  double* sums_of(Share group) { return sums.data() + group.begin / GROUP * cell.EXTRA * HP; }
  // Gradients of what was normalised, (KEPT, HP), for a row of this step.
  Blocks normalised_of(size_t row, const Units& units) {
    return {normalised.data() + row * cell.KEPT * HP + units.at, HP};
  }
  // What units further on will ask for: rows take turns, and no processor sees through that.
  void fetch(size_t time, size_t place, size_t unit) {
    if (unit >= t.H) return;
    const float* kept = at.kept(time, place) + unit;
    for (int s = 0; s < cell.KEPT; s++) __builtin_prefetch(kept + s * HP, 1);
    if (b.dy) __builtin_prefetch(b.dy + time * b.dy_time + place * b.dy_row + unit);
    __builtin_prefetch(at.h_before(time, place) + unit);
    if (cell.MEMORY) __builtin_prefetch(at.c_before(time, place) + unit);
  }
  // The row's share in the gradient of alpha.
  void put_alpha(size_t time, size_t row, const Units& units, V products) {
    dalphas[(time % 2 * t.B + row) * at.U + units.at / W] =
        Moments::of(&products, &products, 1).first;
  }

  Step at;
  const StepCall& t;
  const StepBack& b;
  const BackwardKernel& kernel;
  const StepLayout& cell;
  const size_t HP;
  // What reaches the state that is being looked at, (B, H): through the matrices, past them, the
  // memory, and the start of the present block.
  std::vector<float> dh, direct, dc, dstart;

 private:
  static constexpr int ordered[] = {0, 1, 2, 3, 4, 5, 6, 7};

  void through_time(int thread) {
    // Columns of dh in whole panels, so that a thread's units need only its own columns.
    const size_t P = (t.H + WIDE * W - 1) / (WIDE * W);
    const Share rows = t.by_units ? Share{0, t.B} : at.rows(thread);
    const Share mine = t.by_units ? share(P, thread, t.threads) : Share{0, P};
    const Share columns{mine.begin * WIDE * W, std::min(t.H, mine.end * WIDE * W)};
    const bool meet = t.by_units && t.threads > 1;
    for (size_t time = t.T; time-- > 0;) {
      const size_t end = std::max(rows.begin, at.active(time, rows.end));
      for (Pointwise phase : kernel.phases) {
        if (!phase) break;
        for (size_t begin = rows.begin; begin < end; begin += GROUP)
          phase(*this, time, {begin, std::min(end, begin + GROUP)}, columns);
        if (meet) barrier.wait();
      }
      if (at.from_input())
        logits(time, meet ? share(end, thread, t.threads) : Share{rows.begin, end});
      if (columns.begin >= columns.end) continue;
      multiply(
          rows.begin, end, cell.SH * HP, columns.end - columns.begin,
          [&](size_t row) { return at.kept(time, at.place(row)) + cell.OH * HP; },
          w_h.data() + columns.begin * cell.SH * HP,
          [&](size_t row) { return dh.data() + at.place(row) * t.H + columns.begin; });
      if (t.reset)
        for (size_t row = rows.begin; row < end; row++)
          if (at.anew(time, at.place(row))) forget(at.place(row), columns);
    }
  }

  // From the units' shares, of which two steps' are kept apart: threads are at most one apart.
  void logits(size_t time, Share rows) {
    for (size_t row = rows.begin; row < rows.end; row++) {
      const size_t k = time * t.B + at.place(row);
      double sum = 0;
      for (size_t u = 0; u < at.U; u++) sum += dalphas[(time % 2 * t.B + row) * at.U + u];
      const double alpha = at.alphas[k];
      dlogits[k] = static_cast<float>(sum * alpha * (1 - alpha));
    }
  }

  void forget(size_t place, Share columns) {
    for (std::vector<float>* past : {&dh, &dc, &direct, &dstart})
      if (!past->empty())
        std::fill(past->begin() + place * t.H + columns.begin,
                  past->begin() + place * t.H + columns.end, 0.0f);
  }

  size_t count() const { return t.lengths ? tokens.size() : t.T * t.B; }
  size_t token(size_t k) const { return t.lengths ? tokens[k] : k; }
  const float* dz(size_t k) const { return t.kept + token(k) * t.kept_size; }
  const float* x(size_t k) const { return at.x(token(k) / t.B, token(k) % t.B); }

  void inputs(int thread) {
    if (!b.dx) return;
    const Share mine = share(count(), thread, t.threads);
    // Rows of a block and one panel of the weights stay in the cache together.
    for (size_t begin = mine.begin; begin < mine.end; begin += 120)
      multiply(
          begin, std::min(mine.end, begin + 120), cell.SX * HP, t.I,
          [&](size_t k) { return dz(k); }, w_x.data(),
          [&](size_t k) { return b.dx + token(k) * t.I; });
    if (at.from_input())
      for (size_t k = mine.begin; k < mine.end; k++)
        for (size_t i = 0; i < t.I; i++)
          b.dx[token(k) * t.I + i] += dlogits[token(k)] * at.w_alpha()[i];
  }

  void weights(int thread) {
    matrices(thread);
    const size_t accumulators = cell.S + cell.N2;
    if (b.dbias) {
      const Share mine = share(accumulators * HP, thread, t.threads);
      for (size_t k = 0; k < count(); k++)
        add_up(bias_sums.data() + mine.begin, dz(k) + mine.begin, mine.end - mine.begin);
      for (size_t m = mine.begin; m < mine.end; m++)
        if (m % HP < t.H) b.dbias[m / HP * t.H + m % HP] = static_cast<float>(bias_sums[m]);
    }
    if (at.from_input() && thread == 0) alpha_weights(accumulators * t.H);
  }

  // dz^T [x; h]: both at once, for dz takes long to fetch.
  void matrices(int thread) {
    const size_t columns[] = {b.dw_x ? t.I : 0, b.dw_h ? t.H : 0};
    if (!columns[0] && !columns[1]) return;
    // Columns of [x; h] that an accumulator meets.
    auto meets = [&](int part, int s) {
      return part ? s >= cell.OH && s < cell.OH + cell.SH : s < cell.SX;
    };
    auto border = [&](int of_thread) {
      const int accumulators = cell.S + cell.N2;
      size_t total = 0, m = 0;
      auto cost = [&](int s) { return meets(0, s) * columns[0] + meets(1, s) * columns[1]; };
      for (int s = 0; s < accumulators; s++) total += cost(s) * HP;
      size_t left = total * of_thread / t.threads;
      for (int s = 0; s < accumulators; s++, m += HP) {
        if (left < cost(s) * HP) return m + left / cost(s);
        left -= cost(s) * HP;
      }
      return m;
    };
    outer_parts(
        border(thread), border(thread + 1), columns, count(), [&](size_t k) { return dz(k); },
        [&](size_t part, size_t k) {
          return part ? at.h_before(token(k) / t.B, token(k) % t.B) : x(k);
        },
        [&](size_t part, size_t m) -> float* {
          const int s = static_cast<int>(m / HP);
          const size_t unit = m % HP;
          if (unit >= t.H || !meets(part, s)) return nullptr;
          return part ? b.dw_h + ((s - cell.OH) * t.H + unit) * t.H
                      : b.dw_x + (cell.x_blocks[s] * t.H + unit) * t.I;
        },
        scratch[thread].data());
  }

  void alpha_weights(size_t bias) {
    double sum = 0;
    for (size_t k = 0; k < count(); k++) {
      const double d = dlogits[token(k)];
      sum += d;
      for (size_t i = 0; b.dw_x && i < t.I; i++) dw_alpha[i] += d * x(k)[i];
    }
    if (b.dbias) b.dbias[bias] = static_cast<float>(sum);
    for (size_t i = 0; b.dw_x && i < t.I; i++)
      b.dw_x[cell.SX * t.H * t.I + i] = static_cast<float>(dw_alpha[i]);
  }

  Barrier barrier;
  std::vector<std::vector<float>> scratch;
  std::vector<float> w_x, w_h, normalised, dlogits;
  std::vector<double> sums, bias_sums, dalphas, dw_alpha;
  std::vector<size_t> tokens;
};

// What one row's units have at one token: the step's inputs, and what reaches its new state.
template <class C>
struct BackRow {
  StepBackward& s;
  const size_t time, row, place;
  const Units& units;
  Given g;
  Blocks kept;
  After after;
  Reaching d;
  V h_kept{}, c_kept{};  // what zoneout lets through to the old state
  V whole;               // all that reaches h

  BackRow(StepBackward& s, size_t time, size_t row, const Units& u)
      : s(s), time(time), row(row), place(s.at.place(row)), units(u) {
    Step& at = s.at;
    g = at.given(time, place, u);
    kept = at.blocks(time, place, u);
    whole = u.get(of(s.dh));
    if (!s.direct.empty()) whole += u.get(of(s.direct));
    if (s.b.dy) whole += u.get(s.b.dy + time * s.b.dy_time + place * s.b.dy_row);
    if (ends()) whole += u.get(of(s.dstart));
    d = {whole, C::MEMORY ? u.get(of(s.dc)) : V{}};
    after = {u.get(at.y(time, place)), C::MEMORY ? u.get(at.c(time, place)) : V{}};
    const float share = at.t.zoneout;
    if (share > 0.0f) {
      const V replaced = load(at.kept(time, place) + at.replaced() + u.at);
      (C::MEMORY ? after.c : after.h) = replaced;
      h_kept = all(share) * d.h, c_kept = all(share) * d.c;
      d.h -= h_kept, d.c -= c_kept;
    }
  }

  void put(const Past& past) {
    if (!s.direct.empty()) units.put(of(s.direct), past.h + h_kept);
    if (C::MEMORY) units.put(of(s.dc), past.c + c_kept);
    if (ends()) units.put(of(s.dstart), whole);
  }

 private:
  bool ends() const { return s.at.block_start(time, place) != nullptr; }
  float* of(std::vector<float>& rows) const { return rows.data() + place * s.at.t.H; }
};

// f(row, sums) for each row of the group and each vector of units; sums of extra's gradients.
template <class C, class F>
inline void each_row(StepBackward& s, size_t time, Share group, Share columns, F&& f) {
  constexpr size_t AHEAD = 2;
  double* of_group = s.sums_of(group);
  const bool from_input = s.at.from_input();
  for (size_t unit = columns.begin; unit < columns.end; unit += W) {
    const Units units(unit / W, s.t.H);
    V sums[C::EXTRA + 1] = {};
    for (size_t k = group.begin; k < group.end; k++) {
      BackRow<C> row(s, time, k, units);
      s.fetch(time, row.place, unit + AHEAD * W);
      f(row, sums);
      if constexpr (C::ALPHA >= 0)
        if (from_input) {
          s.put_alpha(time, k, units, sums[C::ALPHA]);
          sums[C::ALPHA] = V{};
        }
    }
    for (int e = 0; e < C::EXTRA; e++) add_up(of_group + e * s.HP + unit, sums[e]);
  }
}

template <class C>
TR_FLAT void pointwise(StepBackward& s, size_t time, Share group, Share columns) {
  each_row<C>(s, time, group, columns, [](BackRow<C>& r, V* sums) {
    r.put(C::backward(r.g, r.kept, r.after, r.d, sums));
  });
}

// What the output gate reads of a normalised c, and the gradient that reaches the normalised one.
template <class C>
struct Read {
  V hat, tanh_of, of_hat;
  typename C::Gates::Mixed of;
  Read(const BackRow<C>& r, const typename C::Gates& k, V* sums) {
    const float* numbers = r.s.at.numbers(r.time, r.place);
    const V gain = r.g.fixed(C::READ);
    hat = Normal{numbers[2], numbers[3]}(r.after.c);
    tanh_of = tanh(hat * gain + r.g.fixed(C::READ + 1));
    of = C::Gates::back(r.g, k, k.o * tanh_of, r.d.h, sums);
    const V read = of.candidate * k.o * slope_of_tanh(tanh_of);
    sums[C::READ] += read * hat;
    sums[C::READ + 1] += read;
    of_hat = read * gain;
  }
};

// d of the numbers that were normalised, from d of what came of them; sums over the row: first of
// of_hat, second of of_hat * hat.
inline V before_norm(V of_hat, V hat, const Moments& sums, size_t count, float scale) {
  const float mean = static_cast<float>(sums.first / count);
  const float along = static_cast<float>(sums.second / count);
  return (of_hat - all(mean) - hat * all(along)) * all(scale);
}

template <class C>
TR_FLAT void sums_of_c(StepBackward& s, size_t time, Share group, Share columns) {
  for (size_t unit = columns.begin; unit < columns.end; unit += W) {
    const Units units(unit / W, s.t.H);
    for (size_t k = group.begin; k < group.end; k++) {
      const BackRow<C> row(s, time, k, units);
      float pre[C::Cell::S * W];
      V unused[C::EXTRA] = {};
      C::pre(row.g, row.kept, {pre, W});
      const Read<C> read(row, typename C::Gates(row.g, {pre, W}), unused);
      s.at.moments[2][k * s.at.U + unit / W] = Moments::of(&read.of_hat, &read.hat, 1);
    }
  }
}

template <class C>
TR_FLAT void through_gates(StepBackward& s, size_t time, Share group, Share columns) {
  using Cell = typename C::Cell;
  Moments of_c[GROUP];
  if (C::MEMORY)
    for (size_t k = group.begin; k < group.end; k++) of_c[k - group.begin] = s.at.summed(2, k);
  each_row<C>(s, time, group, columns, [&](BackRow<C>& r, V* sums) {
    float pre[C::Cell::S * W];
    C::pre(r.g, r.kept, {pre, W});
    float gradients[8 * W];
    const Blocks out{gradients, W};
    if constexpr (C::MEMORY) {
      const typename C::Gates k(r.g, {pre, W});
      const Read<C> read(r, k, sums);
      const float scale = s.at.numbers(time, r.place)[3];
      const V dc = r.d.c + before_norm(read.of_hat, read.hat, of_c[r.row - group.begin], s.t.H,
                                       scale);
      r.put({read.of.past, Cell::gates(r.g, k, read.tanh_of, read.of, dc, {pre, W}, out, sums)});
    } else {
      Cell::forward(r.g, {pre, W}, out);
      r.put(Cell::backward(r.g, out, r.after, r.d, sums));
    }
    const Blocks normalised = s.normalised_of(r.row, r.units);
    V of_hats[C::KEPT], hats[C::KEPT];
    for (int a = 0; a < Cell::S; a++) sums[C::BIASES + a] += out[a];
    for (int n = 0; n < C::KEPT; n++) {
      const V d = out[C::enters(n)];
      hats[n] = r.kept[n];
      sums[C::GAINS + n] += d * hats[n];
      normalised.put(n, of_hats[n] = d * r.g.fixed(C::GAINS + n));
    }
    const size_t m = r.row * s.at.U + r.units.at / W;
    s.at.moments[0][m] = Moments::of(of_hats, hats, C::SX);
    s.at.moments[1][m] = Moments::of(of_hats + C::SX, hats + C::SX, C::SH);
  });
}

template <class C>
TR_FLAT void through_norms(StepBackward& s, size_t time, Share group, Share columns) {
  for (size_t k = group.begin; k < group.end; k++) {
    const Moments of_x = s.at.summed(0, k), of_h = s.at.summed(1, k);
    const size_t place = s.at.place(k);
    const float* numbers = s.at.numbers(time, place);
    for (size_t unit = columns.begin; unit < columns.end; unit += W) {
      const Units units(unit / W, s.t.H);
      const Blocks hats = s.at.blocks(time, place, units);
      // As they were rounded when they were summed: of one unit nothing must be left.
      const Blocks of_hats = s.normalised_of(k, units);
      for (int n = 0; n < C::KEPT; n++) {
        const bool x = n < C::SX;
        hats.put(n, before_norm(of_hats[n], hats[n], x ? of_x : of_h,
                                (x ? C::SX : C::SH) * s.t.H, numbers[x ? 0 : 1]));
      }
    }
  }
}

}  // namespace TR_TARGET
