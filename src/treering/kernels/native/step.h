// A step cell along a whole sequence, and backwards through it.
//
// A panel holds W (or UV * W) units of all gates and has a row for every entry of [x; h], so that
// one tile gives all pre-activations of its units; the pointwise part follows while they are in
// the first cache. h of the step before is read from the outputs.
//
// Threads share the rows of the batch, and then never wait for each other, or they share the
// units and meet once a step. Sums are taken in an order that depends on neither.
//
// Legend: B batch, T time, I input, H hidden, HP hidden rounded up to vectors, S gate blocks.
#pragma once
#include <vector>

#include "pages.h"
#include "step_cells.h"
#include "threads.h"

namespace TR_TARGET {

struct StepWeights {
  const float *w_x, *w_h;  // (SX * H, I) and (SH * H, H), as the cell has them
  const float* bias;       // (S + N2, H) in the order of the accumulators, or nullptr
  const float* extra;      // (EXTRA, H)
};

struct StepCall {
  size_t T, B, I, H;
  int32_t kind, options, threads, by_units;
  const float* x;  // x[t * x_time + b * x_row + i]
  int64_t x_time, x_row;
  // Rows run longest first. lengths (B) in that order, and the row's place in the tensors; both
  // nullptr where all sequences are T long.
  const int64_t *lengths, *places;
  const uint8_t* reset;    // (T, B) or nullptr
  StepWeights weights;
  const float *h_first, *c_first;
  float* y;       // (T, B, H)
  float* c;       // (T, B, H) with c_time = B * H, or (B, H) with c_time = 0
  int64_t c_time;
  float* kept;    // (T, B, kept_size), at least KEPT and S + N2 times HP, or nullptr
  int64_t kept_size;
  float *h_last, *c_last;  // (B, H)
};

struct StepBack {
  const float* dy;  // dy[t * dy_time + b * dy_row + i], or nullptr
  int64_t dy_time, dy_row;
  const float *dh_last, *dc_last;  // (B, H) or nullptr
  float* dx;                       // (T, B, I) or nullptr
  float *dh_first, *dc_first;      // (B, H)
  float *dw_x, *dw_h;              // zeroed, or nullptr
  float* dbias;                    // (S + N2, H) or nullptr
  float* dextra;                   // (SUMS, H) or nullptr
};

// Rows are shared in groups, whose sums are then added in order.
constexpr size_t GROUP = 4;

template <class C>
struct StepLayout {
  static constexpr int NV = C::S * C::UV, LX = C::N2 ? 4 : C::SX * C::UV;
  static constexpr int LH = C::N2 ? 4 : C::SH * C::UV;
  const size_t I, H;

  size_t panels_of_units() const { return (panels(H) + C::UV - 1) / C::UV; }
  size_t first_chunk() const { return (NV + I * LX + H * LH) * W; }
  size_t panel() const { return first_chunk() + (1 + I + H) * C::N2 * W; }
  size_t weights() const { return panels_of_units() * panel(); }
  size_t size() const { return weights() + C::EXTRA * padded(H); }

  void pack(const StepWeights& w, float* out) const {
    static constexpr int ordered[] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (size_t p = 0; p < panels_of_units(); p++) {
      chunk<C::S>(p, 0, w.bias, 1, ordered, out);
      chunk<LX / C::UV>(p, 0, w.w_x, I, C::x_blocks, out);
      chunk<LH / C::UV>(p, 0, w.w_h, H, ordered, out);
      if constexpr (C::N2 > 0) {
        chunk<C::N2>(p, C::S, w.bias, 1, ordered, out);
        chunk<C::N2>(p, C::S, w.w_x, I, ordered, out);
        chunk<C::N2>(p, C::S, w.w_h, H, ordered, out);
      }
    }
    pack_extra(w, out);
  }
  void pack_extra(const StepWeights& w, float* out) const {
    for (int e = 0; e < C::EXTRA; e++)
      for (size_t unit = 0; unit < padded(H); unit++)
        *out++ = unit < H ? w.extra[e * H + unit] : 0.0f;
  }

 private:
  // Blocks first, first + 1, .. of a matrix with K columns, for the units of panel p.
  template <int BLOCKS>
  void chunk(size_t p, int first, const float* matrix, size_t K, const int* order,
             float*& out) const {
    const float* rows[C::UV * BLOCKS * W];
    for (int v = 0; v < C::UV; v++)
      for (int s = 0; s < BLOCKS; s++)
        for (size_t j = 0; j < W; j++) {
          const size_t unit = (p * C::UV + v) * W + j;
          rows[(v * BLOCKS + s) * W + j] =
              matrix && unit < H ? matrix + ((first + order[s]) * H + unit) * K : nullptr;
        }
    for (size_t k = 0; k < K; k++)
      for (const float* row : rows) *out++ = row ? row[k] : 0.0f;
  }
};

// Where things are at one time step, and which rows are still running.
template <class C>
class StepPlaces {
 public:
  explicit StepPlaces(const StepCall& call) : t(call), layout{t.I, t.H}, zeros(t.H) {}

  size_t active(size_t time, size_t rows) const {
    if (t.lengths)
      while (rows > 0 && static_cast<size_t>(t.lengths[rows - 1]) <= time) rows--;
    return rows;
  }
  // Below, b is a place in the tensors.
  size_t place(size_t row) const { return t.places ? t.places[row] : row; }
  bool anew(size_t time, size_t b) const { return t.reset && t.reset[time * t.B + b]; }
  const float* x(size_t time, size_t b) const { return t.x + time * t.x_time + b * t.x_row; }
  float* y(size_t time, size_t b) const { return t.y + (time * t.B + b) * t.H; }
  float* c(size_t time, size_t b) const { return t.c + time * t.c_time + b * t.H; }
  float* kept(size_t time, size_t b) const {
    return t.kept ? t.kept + (time * t.B + b) * t.kept_size : nullptr;
  }
  const float* h_before(size_t time, size_t b) const {
    if (anew(time, b)) return zeros.data();
    return time ? y(time - 1, b) : t.h_first + b * t.H;
  }
  const float* c_before(size_t time, size_t b) const {
    if (anew(time, b)) return zeros.data();
    return time ? c(time - 1, b) : t.c_first + b * t.H;
  }
  StepCell cell(const float* extra) const { return {padded(t.H), extra, t.options}; }

  // This thread's rows: whole groups, about equally many tokens.
  Share rows(int thread) const { return {border(thread), border(thread + 1)}; }

  const StepCall& t;
  const StepLayout<C> layout;

 private:
  size_t border(int thread) const {
    const size_t groups = (t.B + GROUP - 1) / GROUP;
    if (!t.lengths) return std::min(t.B, groups * thread / t.threads * GROUP);
    size_t total = 0, seen = 0, b = 0;
    for (size_t k = 0; k < t.B; k++) total += t.lengths[k];
    for (; b < t.B && seen * t.threads < total * thread; b += GROUP)
      for (size_t k = b; k < std::min(t.B, b + GROUP); k++) seen += t.lengths[k];
    return std::min(b, t.B);
  }

  std::vector<float> zeros;
};

template <class C>
class StepForward {
 public:
  explicit StepForward(const StepCall& call)
      : at(call), t(call), barrier(t.threads), packed(at.layout.size()) {
    at.layout.pack(t.weights, packed.data());
    if (t.kept) {
      large_pages(t.kept, t.T * t.B * t.kept_size);
      large_pages(t.c, C::MEMORY ? t.T * t.B * t.H : 0);
    }
    large_pages(t.y, t.T * t.B * t.H);
  }

  void run() {
    on_threads(t.threads, [this](int thread) { work(thread); });
    for (size_t row = 0; row < t.B; row++) {
      const size_t last = (t.lengths ? t.lengths[row] : t.T) - 1, b = at.place(row);
      std::memcpy(t.h_last + b * t.H, at.y(last, b), t.H * sizeof(float));
      if (C::MEMORY) std::memcpy(t.c_last + b * t.H, at.c(last, b), t.H * sizeof(float));
    }
  }

 private:
  static constexpr int NV = StepLayout<C>::NV, LX = StepLayout<C>::LX, LH = StepLayout<C>::LH;
  static constexpr int MR = tile_rows(NV), Z = (NV + C::N2) * W;

  void work(int thread) {
    const size_t U = at.layout.panels_of_units();
    const Share rows = t.by_units ? Share{0, t.B} : at.rows(thread);
    const Share units = t.by_units ? share(U, thread, t.threads) : Share{0, U};
    size_t end = rows.end;
    for (size_t time = 0; time < t.T; time++) {
      end = std::max(rows.begin, at.active(time, end));
      for (size_t p = units.begin; p < units.end; p++)
        by_tiles<MR>(rows.begin, end, [&](auto count, size_t b) {
          alignas(64) float z[decltype(count)::value * Z];
          tile<decltype(count)::value>(time, p, b, z);
          finish(time, p, b, decltype(count)::value, z);
        });
      if (t.by_units && t.threads > 1) barrier.wait();
    }
  }

  template <int R>
  void tile(size_t time, size_t p, size_t b, float* z) const {
    const float *x[R], *h[R];
    for (int i = 0; i < R; i++) {
      const size_t place = at.place(b + i);
      x[i] = at.x(time, place), h[i] = at.h_before(time, place);
    }
    const float* panel = packed.data() + p * at.layout.panel();
    product<R, NV, LX, LH, C::OH * C::UV>(x, h, panel, z);
    if constexpr (C::N2 > 0)
      product<R, C::N2, C::N2, C::N2, 0>(x, h, panel + at.layout.first_chunk(), z + NV * W);
  }

  // z = bias + W_x x + W_h h; x meets the first LX of the N vectors, h the LH from OH on.
  template <int R, int N, int LX_, int LH_, int OH>
  void product(const float* const* x, const float* const* h, const float* panel, float* z) const {
    V acc[R][N];
    for (int i = 0; i < R; i++)
      for (int j = 0; j < N; j++) acc[i][j] = load(panel + j * W);
    accumulate_some<R, N, LX_, 0>(acc, x, panel + N * W, t.I);
    accumulate_some<R, N, LH_, OH>(acc, h, panel + (N + t.I * LX_) * W, t.H);
    for (int i = 0; i < R; i++)
      for (int j = 0; j < N; j++) store(z + i * Z + j * W, acc[i][j]);
  }

  __attribute__((noinline)) void finish(size_t time, size_t p, size_t b, int rows,
                                        const float* z) const {
    const StepCell cell = at.cell(packed.data() + at.layout.weights());
    for (int v = 0; v < C::UV; v++) {
      if ((p * C::UV + v) * W >= t.H) break;
      const Units units(p * C::UV + v, t.H);
      for (int i = 0; i < rows; i++) {
        const size_t place = at.place(b + i);
        StepRow row{at.h_before(time, place), nullptr, at.y(time, place), nullptr,
                    at.kept(time, place)};
        if (C::MEMORY) row.c_before = at.c_before(time, place), row.c = at.c(time, place);
        C::forward(cell, units, row, z + i * Z + v * C::S * W);
      }
    }
  }

  const StepPlaces<C> at;
  const StepCall& t;
  Barrier barrier;
  std::vector<float> packed;
};

template <class C>
class StepBackward {
 public:
  StepBackward(const StepCall& call, const StepBack& back)
      : at(call), t(call), b(back), HP(padded(t.H)), barrier(t.threads), scratch(t.threads) {
    // Threads allocate nothing, or there would be nobody to tell that memory is short.
    for (auto& s : scratch) s.resize(outer_scratch(std::max(t.I, t.H)));
    static constexpr int ordered[] = {0, 1, 2, 3, 4, 5, 6, 7};
    w_h.resize(packed_columns(C::SH * HP, t.H));
    pack_padded(t.weights.w_h, t.H, t.H, ordered, C::SH, w_h.data());
    extra.resize(C::EXTRA * HP);
    at.layout.pack_extra(t.weights, extra.data());
    if (b.dx) {
      w_x.resize(packed_columns(C::SX * HP, t.I));
      pack_padded(t.weights.w_x, t.H, t.I, C::x_blocks, C::SX, w_x.data());
    }
    dh.assign(t.B * t.H, 0.0f);
    dc.assign(C::MEMORY ? t.B * t.H : 0, 0.0f);
    direct.assign(C::DIRECT ? t.B * t.H : 0, 0.0f);
    if (b.dh_last) std::memcpy(dh.data(), b.dh_last, dh.size() * sizeof(float));
    if (b.dc_last && C::MEMORY) std::memcpy(dc.data(), b.dc_last, dc.size() * sizeof(float));
    sums.assign((t.B + GROUP - 1) / GROUP * C::SUMS * HP, 0.0);
    bias_sums.assign(b.dbias ? (C::S + C::N2) * HP : 0, 0.0);
    if (t.lengths)
      for (size_t time = 0; time < t.T; time++)
        for (size_t row = 0, end = at.active(time, t.B); row < end; row++)
          tokens.push_back(time * t.B + at.place(row));
  }

  void run() {
    on_threads(t.threads, [this](int thread) {
      through_time(thread);
      barrier.wait();
      inputs(thread);
      weights(thread);
    });
    for (size_t i = 0; i < t.B * t.H; i++)
      b.dh_first[i] = dh[i] + (C::DIRECT ? direct[i] : 0.0f);
    if (C::MEMORY) std::memcpy(b.dc_first, dc.data(), dc.size() * sizeof(float));
    if (!b.dextra) return;
    const size_t of_group = C::SUMS * HP;
    for (size_t m = 0; m < of_group; m++) {
      double sum = 0;
      for (size_t at = m; at < sums.size(); at += of_group) sum += sums[at];
      if (m % HP < t.H) b.dextra[m / HP * t.H + m % HP] = static_cast<float>(sum);
    }
  }

 private:
  void through_time(int thread) {
    // Columns of dh in whole panels, so that a thread's units need only its own columns.
    const size_t P = (t.H + WIDE * W - 1) / (WIDE * W);
    const Share rows = t.by_units ? Share{0, t.B} : at.rows(thread);
    const Share mine = t.by_units ? share(P, thread, t.threads) : Share{0, P};
    const Share columns{mine.begin * WIDE * W, std::min(t.H, mine.end * WIDE * W)};
    for (size_t time = t.T; time-- > 0;) {
      const size_t end = std::max(rows.begin, at.active(time, rows.end));
      for (size_t begin = rows.begin; begin < end; begin += GROUP)
        pointwise(time, begin, std::min(end, begin + GROUP), columns);
      if (t.by_units && t.threads > 1) barrier.wait();
      if (columns.begin >= columns.end) continue;
      multiply(
          rows.begin, end, C::SH * HP, columns.end - columns.begin,
          [&](size_t row) { return at.kept(time, at.place(row)) + C::OH * HP; },
          w_h.data() + columns.begin * C::SH * HP,
          [&](size_t row) { return dh.data() + at.place(row) * t.H + columns.begin; });
      if (t.reset)
        for (size_t row = rows.begin; row < end; row++)
          if (at.anew(time, at.place(row))) forget(at.place(row), columns);
    }
  }

  void forget(size_t b, Share columns) {
    for (std::vector<float>* past : {&dh, &dc, &direct})
      if (!past->empty())
        std::fill(past->begin() + b * t.H + columns.begin,
                  past->begin() + b * t.H + columns.end, 0.0f);
  }

  // Rows of one group.
  __attribute__((noinline)) void pointwise(size_t time, size_t begin, size_t end, Share columns) {
    const StepCell cell = at.cell(extra.data());
    double* of_group = sums.data() + begin / GROUP * C::SUMS * HP;
    for (size_t unit = columns.begin; unit < columns.end; unit += W) {
      const Units units(unit / W, t.H);
      V summed[C::SUMS + 1] = {};
      for (size_t k = begin; k < end; k++) {
        const size_t row = at.place(k);
        BackRow r{at.h_before(time, row), nullptr, at.y(time, row), nullptr, at.kept(time, row),
                  nullptr, nullptr};
        if (C::MEMORY) {
          r.c_before = at.c_before(time, row), r.c = at.c(time, row);
          r.dc = dc.data() + row * t.H;
        }
        V d = units.get(dh.data() + row * t.H);
        if (C::DIRECT) {
          r.direct = direct.data() + row * t.H;
          d += units.get(r.direct);
        }
        if (b.dy) d += units.get(b.dy + time * b.dy_time + row * b.dy_row);
        C::backward(cell, units, r, d, summed);
      }
      float terms[W];
      for (int s = 0; s < C::SUMS; s++) {
        store(terms, summed[s]);
        add_up(of_group + s * HP + unit, terms, W);
      }
    }
  }

  size_t count() const { return t.lengths ? tokens.size() : t.T * t.B; }
  size_t token(size_t k) const { return t.lengths ? tokens[k] : k; }
  const float* dz(size_t k) const { return t.kept + token(k) * t.kept_size; }

  void inputs(int thread) {
    if (!b.dx) return;
    const Share mine = share(count(), thread, t.threads);
    // Rows of a block and one panel of the weights stay in the cache together.
    for (size_t begin = mine.begin; begin < mine.end; begin += 120)
      multiply(
          begin, std::min(mine.end, begin + 120), C::SX * HP, t.I,
          [&](size_t k) { return dz(k); }, w_x.data(),
          [&](size_t k) { return b.dx + token(k) * t.I; });
  }

  void weights(int thread) {
    auto dz_at = [&](size_t k) { return dz(k); };
    auto part = [&](int first, int blocks, size_t K, const int* order, auto&& a, float* dw) {
      if (!dw) return;
      const Share mine = share(blocks * HP, thread, t.threads);
      outer_rows(
          first * HP + mine.begin, first * HP + mine.end, K, count(), dz_at, a,
          [&](size_t m) -> float* {
            const size_t unit = m % HP;
            return unit < t.H ? dw + (order[m / HP - first] * t.H + unit) * K : nullptr;
          },
          scratch[thread].data());
    };
    static constexpr int ordered[] = {0, 1, 2, 3, 4, 5, 6, 7};
    part(0, C::SX, t.I, C::x_blocks, [&](size_t k) {
      return at.x(token(k) / t.B, token(k) % t.B);
    }, b.dw_x);
    part(C::OH, C::SH, t.H, ordered, [&](size_t k) {
      return at.h_before(token(k) / t.B, token(k) % t.B);
    }, b.dw_h);
    if (b.dbias) {
      const Share mine = share((C::S + C::N2) * HP, thread, t.threads);
      for (size_t k = 0; k < count(); k++)
        add_up(bias_sums.data() + mine.begin, dz(k) + mine.begin, mine.end - mine.begin);
      for (size_t m = mine.begin; m < mine.end; m++)
        if (m % HP < t.H) b.dbias[m / HP * t.H + m % HP] = static_cast<float>(bias_sums[m]);
    }
  }

  const StepPlaces<C> at;
  const StepCall& t;
  const StepBack& b;
  const size_t HP;
  Barrier barrier;
  std::vector<std::vector<float>> scratch;
  std::vector<float> w_x, w_h, extra, dh, dc, direct;
  std::vector<double> sums, bias_sums;
  std::vector<size_t> tokens;
};

// One token, few rows: weights are read as they are, for packing them would take longer.
struct OnceCall {
  size_t B, I, H;
  const float *x, *h_before, *c_before;  // (B, I), (B, H)
  StepWeights weights;
  float *y, *h, *c;  // (B, H); y and h are the same numbers
  int32_t kind, options;
};

template <class C>
class StepOnce {
 public:
  explicit StepOnce(const OnceCall& call) : t(call) {
    const StepLayout<C> layout{t.I, t.H};
    if (C::EXTRA && t.H % W) {
      padded_extra.resize(C::EXTRA * padded(t.H));
      layout.pack_extra(t.weights, padded_extra.data());
    }
    cell = {padded(t.H), padded_extra.empty() ? t.weights.extra : padded_extra.data(), t.options};
  }

  void run() const {
    for (size_t u = 0; u < panels(t.H); u++)
      for (size_t b = 0; b < t.B; b++) {
        const Units units(u, t.H);
        alignas(64) float z[(C::S + C::N2) * W];
        for (int s = 0; s < C::S + C::N2; s++) store(z + s * W, accumulator(s, units, b));
        const StepRow row{t.h_before + b * t.H, C::MEMORY ? t.c_before + b * t.H : nullptr,
                          t.y + b * t.H, C::MEMORY ? t.c + b * t.H : nullptr, nullptr};
        C::forward(cell, units, row, z);
      }
    std::memcpy(t.h, t.y, t.B * t.H * sizeof(float));
  }

 private:
  V accumulator(int s, const Units& units, size_t b) const {
    V sums[W] = {};
    if (s < C::SX) add(sums, t.weights.w_x, C::x_blocks[s], units, t.x + b * t.I, t.I);
    if (s >= C::OH && s < C::OH + C::SH)
      add(sums, t.weights.w_h, s - C::OH, units, t.h_before + b * t.H, t.H);
    const V z = across(sums);
    return t.weights.bias ? z + units.get(t.weights.bias + s * t.H) : z;
  }

  // sums[j] += the products of v with the row of unit j, lane by lane.
  void add(V (&sums)[W], const float* matrix, int block, const Units& units, const float* v,
           size_t K) const {
    const float* rows[W];
    for (size_t j = 0; j < W; j++)
      rows[j] = matrix + (block * t.H + units.at + std::min(j, units.count - 1)) * K;
    size_t k = 0;
    for (; k + W <= K; k += W) {
      const V part = load(v + k);
      for (size_t j = 0; j < W; j++) sums[j] += part * load(rows[j] + k);
    }
    if (k < K) {
      const V part = load_part(v + k, K - k);
      for (size_t j = 0; j < W; j++) sums[j] += part * load_part(rows[j] + k, K - k);
    }
  }

  // The sum of vector j in lane j: halves of two vectors are added until one is left.
  static V across(V (&v)[W]) {
#if defined(__clang__)  // which knows shuffles of constants alone
    for (size_t j = 1; j < W; j++)
      for (size_t lane = 1; lane < W; lane++) v[j][0] += v[j][lane];
    for (size_t lane = 1; lane < W; lane++) v[0][0] += v[0][lane];
    for (size_t j = 1; j < W; j++) v[0][j] = v[j][0];
#else
    for (size_t step = W / 2; step > 0; step /= 2) {
      VI here, there;
      for (size_t lane = 0; lane < W; lane++) {
        here[lane] = lane & step ? lane + W : lane;
        there[lane] = lane & step ? lane - step + W : lane + step;
      }
      for (size_t i = 0; i < step; i++)
        v[i] = __builtin_shuffle(v[i], v[i + step], here) +
               __builtin_shuffle(v[i], v[i + step], there);
    }
#endif
    return v[0];
  }

  const OnceCall& t;
  StepCell cell;
  std::vector<float> padded_extra;
};

// f(cell) with the cell that `kind` names.
template <class F>
inline void with_cell(int kind, F&& f) {
  switch (kind) {
    case 0: return f(LSTMStep{});
    case 1: return f(GRUStep{});
    case 2: return f(RNNStep{});
    case 3: return f(QLLSTMStep<1>{});
    case 4: return f(QLLSTMStep<2>{});
    case 5: return f(QLLSTMStep<4>{});
    case 6: return f(NonlinearGateStep<1>{});
    case 7: return f(NonlinearGateStep<2>{});
    case 8: return f(NonlinearGateStep<3>{});
    case 9: return f(NonlinearGateStep<4>{});
  }
}

inline void step_forward(const StepCall& call) {
  with_cell(call.kind, [&](auto cell) { StepForward<decltype(cell)>(call).run(); });
}

inline void step_once(const OnceCall& call) {
  with_cell(call.kind, [&](auto cell) { StepOnce<decltype(cell)>(call).run(); });
}

inline void step_backward(const StepCall& call, const StepBack& back) {
  with_cell(call.kind, [&](auto cell) { StepBackward<decltype(cell)>(call, back).run(); });
}

}  // namespace TR_TARGET
