// Step cells along sequences: states against plain loops in double, gradients against differences
// of those, along a direction in which one input or weight moves.
//
// Legend: T time, B batch, I input, H hidden, S gate blocks.
#include "step_kernels.h"

#include <functional>

#include "check.h"

using namespace TR_TARGET;

namespace {

using Row = std::vector<double>;

double s(double v) { return 1 / (1 + std::exp(-v)); }

// One unit's new state. zx, zh: what x and h bring to each gate, biases among it; extra: its
// numbers beside the matrices; alpha: of this token.
struct Unit {
  double h, c, alpha;
  Row zx, zh, extra;
};
struct State {
  double h, c;
};

double skip(const Unit& u, int options, double alpha, double keep, double candidate) {
  if (options & Skip::FROM_INPUT) alpha = u.alpha;
  const double past = options & Skip::BOUNDED ? alpha * (1 - keep) : alpha;
  return keep * u.h + (1 - keep) * candidate + past * u.h;
}

// i, f, g, o before their activations; `read` is what the output gate sees of c.
struct Memory {
  double c, o, f;
};
Memory memory(const Unit& u, double i, double f, double g, double o) {
  return {s(f) * u.c + s(i) * std::tanh(g), s(o), s(f)};
}

// What the test knows of a kernel: sizes, and the step of one unit up to c and from c on.
struct Cell {
  const char* name;
  int kind, options, x_blocks, h_blocks, extra;
  bool memory, normed;
  std::function<Memory(const Unit&)> to_c;
  std::function<double(const Unit&, const Memory&, double read)> from_c;
  bool bias_of_h = false;  // accumulators of h have biases of their own
  int64_t block_size = 0;
  float zoneout = 0;
};

double both(const Unit& u, int k) { return u.zx[k] + u.zh[k]; }

Cell lstm() {
  return {"lstm", 0, 0, 4, 4, 0, true, false,
          [](const Unit& u) { return memory(u, both(u, 0), both(u, 1), both(u, 2), both(u, 3)); },
          [](const Unit&, const Memory& m, double read) { return m.o * read; }};
}

Cell nonlinear(int n) {
  Cell cell = lstm();
  cell.name = "nonlinear", cell.kind = 5 + n, cell.x_blocks = cell.h_blocks = 4 + n;
  for (int k = 0; k < n; k++) cell.options |= (3 - k) << 2 * k;
  cell.to_c = [n](const Unit& u) {
    double pre[4];
    for (int k = 0; k < 4; k++) pre[k] = both(u, k);
    for (int k = 0; k < n; k++) pre[3 - k] += std::max(0.0, both(u, 4 + k));
    return memory(u, pre[0], pre[1], pre[2], pre[3]);
  };
  return cell;
}

Cell ql_lstm(int blocks, int options) {
  return {"ql-lstm", blocks == 4 ? 5 : 2 + blocks, options, blocks, blocks, 9, true, false,
          [blocks](const Unit& u) {
            double pre[4];
            for (int k = 0; k < 4; k++) {
              const int block = blocks == 4 ? k : blocks == 2 && k == 2 ? 1 : 0;
              pre[k] = u.extra[k] * both(u, block) + u.extra[4 + k];
            }
            return memory(u, pre[0], pre[1], pre[2], pre[3]);
          },
          [options](const Unit& u, const Memory& m, double read) {
            return options & Skip::NO_SKIP ? m.o * read
                                           : skip(u, options, u.extra[8], m.f, m.o * read);
          }};
}

// Cells without a memory: their step is all in `from_c`.
Cell hidden(const char* name, int kind, int options, int blocks, int extra,
            std::function<double(const Unit&)> step) {
  return {name, kind, options, blocks, blocks, extra, false, false,
          [](const Unit&) { return Memory{}; },
          [step](const Unit& u, const Memory&, double) { return step(u); }};
}

Cell gru() {
  Cell cell = hidden("gru", 1, 0, 3, 0, [](const Unit& u) {
    const double r = s(both(u, 0)), z = s(both(u, 1)), n = std::tanh(u.zx[2] + r * u.zh[2]);
    return (1 - z) * n + z * u.h;
  });
  cell.bias_of_h = true;
  return cell;
}

Cell rnn(int relu) {
  return hidden("rnn", 2, relu, 1, 0, [relu](const Unit& u) {
    return relu ? std::max(0.0, both(u, 0)) : std::tanh(both(u, 0));
  });
}

Cell ql_gru(int blocks, int options) {
  Cell cell = hidden("ql-gru", 9 + blocks, options, blocks, 7, [=](const Unit& u) {
    const int keep = blocks == 3 ? 1 : 0, last = blocks - 1;
    const double r = s(u.extra[0] * both(u, 0) + u.extra[3]);
    const double k = s(u.extra[1] * both(u, keep) + u.extra[4]);
    const double n = std::tanh(u.extra[2] * (u.zx[last] + r * u.zh[last]) + u.extra[5]);
    return skip(u, options, u.extra[6], k, n);
  });
  cell.bias_of_h = true;
  return cell;
}

Cell ql_rnn(int blocks, int options) {
  return hidden("ql-rnn", 12 + blocks, options, blocks, 5, [=](const Unit& u) {
    const double n = std::tanh(u.extra[0] * both(u, 0) + u.extra[2]);
    const double f = s(u.extra[1] * both(u, blocks - 1) + u.extra[3]);
    return options & Skip::NO_SKIP ? n : skip(u, options, u.extra[4], f, n);
  });
}

Cell min_gru() {
  Cell cell = hidden("min-gru", 21, 0, 2, 0, [](const Unit& u) {
    return s(-u.zx[0]) * u.h + s(u.zx[0]) * u.zx[1];
  });
  cell.h_blocks = 0;
  return cell;
}

Cell min_lstm() {
  Cell cell = hidden("min-lstm", 22, 0, 3, 0, [](const Unit& u) {
    const double f = s(u.zx[0]), i = s(u.zx[1]);
    return (f * u.h + i * u.zx[2]) / (f + i);
  });
  cell.h_blocks = 0;
  return cell;
}

Cell with_norm(Cell cell, int kind) {
  cell.kind = kind, cell.normed = true;
  return cell;
}

// Everything that is differentiated, in float for the kernel and in double for the loops.
enum Input { X, H0, C0, START, W_X, W_H, BIAS, EXTRA, INPUTS };
using Inputs = std::vector<std::vector<float>>;
using Exact = std::vector<Row>;

struct Shape {
  size_t T, B, I, H;
  bool ragged, resets, bias;
};

struct Problem {
  Cell cell;
  Shape z;
  std::vector<int64_t> lengths;  // by place
  std::vector<uint8_t> reset;
  std::vector<int64_t> steps;

  bool from_input() const { return cell.extra && cell.options & Skip::FROM_INPUT; }
  // Biases belong to the accumulators, in the order of the kernel's.
  int accumulators() const {
    if (cell.normed) return cell.x_blocks + cell.h_blocks;
    return cell.kind == 1 ? 4 : cell.bias_of_h ? 2 * cell.x_blocks : cell.x_blocks;
  }
  // Behind the norms: the accumulators that the cell has without them.
  int behind() const { return cell.kind == 16 ? 4 : cell.x_blocks; }
  int extras() const {
    if (!cell.normed) return cell.extra;
    return cell.extra + cell.x_blocks + cell.h_blocks + behind() + (cell.memory ? 2 : 0);
  }
};

void normalise(Row& v) {
  double mean = 0, variance = 0;
  for (double e : v) mean += e / v.size();
  for (double e : v) variance += (e - mean) * (e - mean) / v.size();
  for (double& e : v) e = (e - mean) / std::sqrt(variance + 1e-5);
}

// Outputs (T, B, H), zero beyond a sequence's end, then the last h, c and start of each sequence.
struct Seen {
  Row y, h, c, start;
};

Seen exact(const Problem& p, const Exact& in) {
  const auto [T, B, I, H, ragged, resets, bias] = p.z;
  const Cell& cell = p.cell;
  const int SX = cell.x_blocks, SH = cell.h_blocks;
  Seen seen{Row(T * B * H), in[H0], in[C0], in[START]};
  // Where the kernel has the gates of x and of h among the accumulators of the GRU.
  const bool is_gru = cell.kind == 1 || cell.kind == 16;
  auto of_x = [&](int k) { return is_gru ? (k + 1) % 3 : k; };
  for (size_t b = 0; b < B; b++) {
    Row h(H), c(H), start(H);
    for (size_t j = 0; j < H; j++) {
      h[j] = in[H0][b * H + j];
      if (cell.memory) c[j] = in[C0][b * H + j];
      if (cell.block_size) start[j] = in[START][b * H + j];
    }
    int64_t steps = cell.block_size ? p.steps[b] : 0;
    for (size_t t = 0; t < static_cast<size_t>(p.lengths[b]); t++) {
      if (resets && p.reset[t * B + b]) {
        h.assign(H, 0), c.assign(H, 0), start.assign(H, 0);
        steps = 0;
      }
      const double* x = &in[X][(t * B + b) * I];
      Row zx(SX * H), zh(SH * H);
      for (size_t m = 0; m < zx.size(); m++)
        for (size_t i = 0; i < I; i++) zx[m] += in[W_X][m * I + i] * x[i];
      for (size_t m = 0; m < zh.size(); m++)
        for (size_t i = 0; i < H; i++) zh[m] += in[W_H][m * H + i] * h[i];
      double alpha = 0;
      if (p.from_input()) {
        for (size_t i = 0; i < I; i++) alpha += in[W_X][SX * H * I + i] * x[i];
        alpha = s(alpha + in[BIAS][p.accumulators() * H]);
      }
      if (cell.normed) normalise(zx), normalise(zh);
      std::vector<Unit> units(H);
      std::vector<Memory> memories(H);
      Row read(H);
      for (size_t j = 0; j < H; j++) {
        Unit& u = units[j];
        u = {h[j], c[j], alpha, Row(SX), Row(SH), Row(p.extras())};
        for (int e = 0; e < p.extras(); e++) u.extra[e] = in[EXTRA][e * H + j];
        for (int k = 0; k < SX; k++) u.zx[k] = zx[k * H + j];
        for (int k = 0; k < SH; k++) u.zh[k] = zh[k * H + j];
        auto biased = [&](auto&& value) {
          for (int k = 0; k < SX; k++) u.zx[k] += value(of_x(k));
          if (is_gru) u.zh[2] += value(3);
          if (cell.bias_of_h && !is_gru)
            for (int k = 0; k < SH; k++) u.zh[k] += value(SX + k);
        };
        if (cell.normed) {
          const int gains = cell.extra;
          for (int k = 0; k < SX; k++) u.zx[k] *= u.extra[gains + of_x(k)];
          for (int k = 0; k < SH; k++) u.zh[k] *= u.extra[gains + SX + k];
          biased([&](int a) { return u.extra[gains + SX + SH + a]; });
        } else if (!in[BIAS].empty()) {
          biased([&](int a) { return in[BIAS][a * H + j]; });
        }
        memories[j] = cell.to_c(u);
        read[j] = memories[j].c;
      }
      if (cell.memory && cell.normed) {
        normalise(read);
        const size_t at = (p.extras() - 2) * H;
        for (size_t j = 0; j < H; j++)
          read[j] = read[j] * in[EXTRA][at + j] + in[EXTRA][at + H + j];
      }
      const bool ends = cell.block_size && ++steps == cell.block_size;
      for (size_t j = 0; j < H; j++) {
        double now = cell.from_c(units[j], memories[j], std::tanh(read[j]));
        if (ends) now += start[j];
        h[j] = now + cell.zoneout * (h[j] - now);
        c[j] = memories[j].c + cell.zoneout * (c[j] - memories[j].c);
        if (ends) start[j] = h[j];
        seen.y[(t * B + b) * H + j] = h[j];
      }
      if (ends) steps = 0;
    }
    for (size_t j = 0; j < H; j++) {
      seen.h[b * H + j] = h[j];
      if (cell.memory) seen.c[b * H + j] = c[j];
      if (cell.block_size) seen.start[b * H + j] = start[j];
    }
  }
  return seen;
}

float* at(std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// Largest distance from `want`, of numbers of about 1.
double off(const std::vector<float>& got, const Row& want) {
  double most = 0;
  for (size_t k = 0; k < want.size(); k++)
    // Not by std::max, which a NaN would pass.
    if (!(std::fabs(got[k] - want[k]) <= most * (1 + std::fabs(want[k]))))
      most = std::fabs(got[k] - want[k]) / (1 + std::fabs(want[k]));
  return most;
}

struct Sharing {
  int threads, by_units;
};

void check(const Cell& cell, const Shape& z) {
  const auto [T, B, I, H, ragged, resets, bias] = z;
  Problem p{cell, z, std::vector<int64_t>(B, T), std::vector<uint8_t>(T * B),
            std::vector<int64_t>(B)};
  std::vector<int64_t> places(B), sorted;
  for (size_t b = 0; b < B; b++) {
    places[b] = static_cast<int64_t>(b);
    if (ragged && b) p.lengths[b] = 1 + static_cast<int64_t>(b * 7 % T);
    p.steps[b] = static_cast<int64_t>(b) % std::max<int64_t>(cell.block_size, 1);
  }
  std::stable_sort(places.begin(), places.end(),
                   [&](int64_t a, int64_t b) { return p.lengths[a] > p.lengths[b]; });
  for (int64_t b : places) sorted.push_back(p.lengths[b]);
  for (size_t k = 0; k < T * B; k++) p.reset[k] = k % 5 == 3;
  for (size_t b = 0; b < B; b++)
    for (size_t t = p.lengths[b]; t < T; t++) p.reset[t * B + b] = 0;

  const int extras = p.extras(), more = p.from_input();
  const float scale = 1 / std::sqrt(static_cast<float>(H));
  const bool biased = (bias && !cell.normed) || more;
  Inputs in{numbers(T * B * I), numbers(B * H), numbers(cell.memory ? B * H : 0),
            numbers(cell.block_size ? B * H : 0), numbers((cell.x_blocks * H + more) * I, scale),
            numbers(cell.h_blocks * H * H, scale),
            numbers(biased ? p.accumulators() * H + more : 0, 0.3f), numbers(extras * H, 0.5f)};
  // Layer norm takes such biases away.
  if (cell.normed && biased) std::fill(in[BIAS].begin(), in[BIAS].end() - more, 0.0f);
  Exact in64;
  for (const auto& v : in) in64.emplace_back(v.begin(), v.end());
  const Seen want = exact(p, in64);
  const auto dy = numbers(T * B * H), dh = numbers(B * H), dc = numbers(in[C0].size());
  const auto dstart = numbers(in[START].size());

  std::vector<std::vector<float>> first;
  for (auto [threads, by_units] : {Sharing{1, 0}, Sharing{2, 0}, Sharing{2, 1}, Sharing{3, 1}}) {
    std::vector<float> y(T * B * H, NAN), c(cell.memory ? T * B * H : 0, NAN), h_last(B * H);
    std::vector<float> c_last(in[C0].size()), start_last(in[START].size());
    std::vector<int64_t> steps_last(B);
    StepCall call{};
    call.T = T, call.B = B, call.I = I, call.H = H, call.kind = cell.kind;
    call.options = cell.options, call.threads = threads, call.by_units = by_units;
    call.x = in[X].data(), call.x_time = static_cast<int64_t>(B * I);
    call.x_row = static_cast<int64_t>(I);
    if (ragged) call.lengths = sorted.data(), call.places = places.data();
    if (resets) call.reset = p.reset.data();
    call.weights = {at(in[W_X]), at(in[W_H]), at(in[BIAS]), at(in[EXTRA])};
    call.h_first = at(in[H0]), call.c_first = at(in[C0]), call.start_first = at(in[START]);
    call.steps_first = p.steps.data(), call.block_size = cell.block_size;
    call.zoneout = cell.zoneout;
    call.y = y.data(), call.c = at(c), call.c_time = 0;
    call.h_last = h_last.data(), call.c_last = at(c_last), call.start_last = at(start_last);
    call.steps_last = steps_last.data();
    step_forward(call);
    std::vector<std::vector<float>> outcome{y, h_last, c_last, start_last};
    const Step places_of(call, kernel(cell.kind).forward.layout);
    std::vector<float> kept(T * B * places_of.row_size(), NAN);
    call.c_time = static_cast<int64_t>(B * H), call.kept = kept.data();
    call.kept_size = static_cast<int64_t>(places_of.row_size());
    step_forward(call);
    for (size_t b = 0; b < B; b++)
      for (size_t t = p.lengths[b]; t < T; t++)
        for (size_t j = 0; j < H; j++) y[(t * B + b) * H + j] = outcome[0][(t * B + b) * H + j] = 0;
    CHECK(y == outcome[0] && h_last == outcome[1] && c_last == outcome[2],
          "%s: keeping what training needs changes the states", cell.name);

    Inputs grad;
    for (const auto& v : in) grad.emplace_back(v.size());
    StepBack back{};
    back.dy = dy.data(), back.dy_time = static_cast<int64_t>(B * H);
    back.dy_row = static_cast<int64_t>(H);
    back.dh_last = dh.data(), back.dc_last = dc.data(), back.dstart_last = dstart.data();
    back.dx = at(grad[X]), back.dh_first = at(grad[H0]), back.dc_first = at(grad[C0]);
    back.dstart_first = at(grad[START]);
    back.dw_x = at(grad[W_X]), back.dw_h = at(grad[W_H]), back.dbias = at(grad[BIAS]);
    back.dextra = at(grad[EXTRA]);
    step_backward(call, back);
    outcome.insert(outcome.end(), grad.begin(), grad.end());
    if (first.empty())
      first = outcome;
    else
      CHECK(outcome == first, "%s: %d threads, by %s", cell.name, threads,
            by_units ? "units" : "rows");
  }
  const Row* seen[] = {&want.y, &want.h, &want.c, &want.start};
  for (int k = 0; k < 4; k++)
    CHECK(off(first[k], *seen[k]) <= 2e-5, "%s %d: state %d is %g off (T %zu B %zu I %zu H %zu)",
          cell.name, cell.options, k, off(first[k], *seen[k]), T, B, I, H);

  if (T == 1 && !resets && !cell.block_size) {
    std::vector<float> y(B * H), c(B * H), h(B * H);
    StepCall call{};
    call.T = 1, call.B = B, call.I = I, call.H = H, call.threads = 1;
    call.kind = cell.kind, call.options = cell.options, call.zoneout = cell.zoneout;
    call.x = in[X].data(), call.x_row = static_cast<int64_t>(I);
    call.h_first = at(in[H0]), call.c_first = at(in[C0]);
    call.y = y.data(), call.c = c.data(), call.h_last = h.data();
    OnceWeights weights{};
    weights.w_x[0] = at(in[W_X]), weights.w_h[0] = at(in[W_H]);
    weights.bias = at(in[BIAS]), weights.extra = at(in[EXTRA]);
    step_once(call, weights);
    CHECK(off(h, want.h) <= 2e-5 && off(c, want.c) <= 2e-5 && h == y, "%s: one token", cell.name);
  }

  // One direction for all inputs would let a small gradient hide behind a large one.
  for (int moved = 0; moved < INPUTS; moved++) {
    if (in[moved].empty()) continue;
    const auto& gradient = first[4 + moved];
    auto direction = numbers(in[moved].size());
    if (moved == BIAS && cell.normed) std::fill(direction.begin(), direction.end() - more, 0.0f);
    if (moved == EXTRA && more)  // its alpha is not read
      std::fill_n(direction.begin() + (cell.extra - 1) * H, H, 0.0f);
    double slope = 0, size = 0;
    for (size_t k = 0; k < direction.size(); k++) {
      const double term = static_cast<double>(gradient[k]) * direction[k];
      slope += term, size += term * term;
    }
    double loss[2];
    for (int side = 0; side < 2; side++) {
      Exact shifted = in64;
      for (size_t k = 0; k < direction.size(); k++)
        shifted[moved][k] += (side ? 1e-6 : -1e-6) * direction[k];
      const Seen then = exact(p, shifted);
      loss[side] = 0;
      for (size_t k = 0; k < dy.size(); k++) loss[side] += dy[k] * then.y[k];
      for (size_t k = 0; k < dh.size(); k++) loss[side] += dh[k] * then.h[k];
      for (size_t k = 0; k < dc.size(); k++) loss[side] += dc[k] * then.c[k];
      for (size_t k = 0; k < dstart.size(); k++) loss[side] += dstart[k] * then.start[k];
    }
    const double difference = (loss[1] - loss[0]) / 2e-6;
    CHECK(std::fabs(slope - difference) <= 2e-4 * (1 + std::sqrt(size)),
          "%s %d: gradient %d (T %zu B %zu I %zu H %zu): %g, not %g", cell.name, cell.options,
          moved, T, B, I, H, slope, difference);
  }
}

Cell with(Cell cell, int64_t block_size, float zoneout) {
  cell.block_size = block_size, cell.zoneout = zoneout;
  return cell;
}

}  // namespace

int main() {
  const int FROM_INPUT = Skip::FROM_INPUT, BOUNDED = Skip::BOUNDED, NO_SKIP = Skip::NO_SKIP;
  const Cell cells[] = {
      lstm(),
      gru(),
      rnn(0),
      rnn(1),
      nonlinear(1),
      nonlinear(2),
      nonlinear(3),
      nonlinear(4),
      ql_lstm(1, 0),
      ql_lstm(2, BOUNDED),
      ql_lstm(2, FROM_INPUT),
      ql_lstm(4, NO_SKIP),
      ql_gru(1, FROM_INPUT | BOUNDED),
      ql_gru(2, 0),
      ql_gru(3, BOUNDED),
      ql_rnn(1, 0),
      ql_rnn(1, NO_SKIP),
      ql_rnn(2, FROM_INPUT),
      with_norm(lstm(), 15),
      with_norm(gru(), 16),
      with_norm(rnn(0), 17),
      with_norm(ql_lstm(1, FROM_INPUT), 18),
      with_norm(ql_lstm(2, 0), 19),
      with_norm(ql_lstm(4, BOUNDED), 20),
      min_gru(),
      min_lstm(),
      with(lstm(), 0, 0.25f),
      with(gru(), 0, 0.25f),
      with(rnn(0), 0, 0.25f),
      with(ql_lstm(2, BOUNDED), 3, 0),
      with(ql_gru(2, FROM_INPUT), 2, 0),
      with(ql_rnn(1, BOUNDED), 3, 0),
      with(with_norm(ql_lstm(2, BOUNDED), 19), 2, 0),
  };
  for (const Cell& cell : cells) {
    check(cell, {1, 3, 2, 9, false, false, true});
    check(cell, {7, 5, 3, 17, true, true, true});
    check(cell, {2, 5, 3, 70, true, false, false});
  }
  check(lstm(), {3, 1, 1, 1, false, true, true});
  check(with_norm(lstm(), 15), {3, 2, 17, 1, false, false, true});
  return finish();
}
