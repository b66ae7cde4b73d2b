// Every step cell there is, by its number.
#pragma once
#include "step_backward.h"
#include "step_forward.h"

namespace TR_TARGET {

struct StepKernel {
  ForwardKernel forward;
  BackwardKernel backward;
};

template <class C>
constexpr StepKernel kernel_of() {
  // Vectors of a panel, and those that x and h meet.
  constexpr int N = C::S * C::UV, N2 = C::N2 * C::UV;
  constexpr bool second = C::SX > C::S, apart = C::N2 > 0 && !second;
  constexpr int LX = apart || second ? N : C::SX * C::UV;
  constexpr int LH = apart ? 0 : second ? N : C::SH * C::UV;
  constexpr auto tiles =
      StepForward::tiles<N, LX, LH, apart || second ? 0 : C::OH, N2, second ? N2 : 0, N2>;
  if constexpr (!C::NORMED)
    return {{layout_of<C>(), tiles, finish<C>, {}}, {layout_of<C>(), {pointwise<C>}}};
  else if constexpr (C::MEMORY)
    return {{layout_of<C>(), tiles, stash, {normed_gates<C>, normed_output<C>}},
            {layout_of<C>(), {sums_of_c<C>, through_gates<C>, through_norms<C>}}};
  else
    return {{layout_of<C>(), tiles, stash, {normed_gates<C>}},
            {layout_of<C>(), {through_gates<C>, through_norms<C>}}};
}

// In the order of `Kind` in step_forms.py.
inline const StepKernel& kernel(int kind) {
  static constexpr StepKernel kernels[] = {
      kernel_of<MemoryStep<LSTMGates>>(),
      kernel_of<GRUStep>(),
      kernel_of<RNNStep>(),
      kernel_of<MemoryStep<QLGates<1>>>(),
      kernel_of<MemoryStep<QLGates<2>>>(),
      kernel_of<MemoryStep<QLGates<4>>>(),
      kernel_of<MemoryStep<NonlinearGates<1>>>(),
      kernel_of<MemoryStep<NonlinearGates<2>>>(),
      kernel_of<MemoryStep<NonlinearGates<3>>>(),
      kernel_of<MemoryStep<NonlinearGates<4>>>(),
      kernel_of<QLGRUStep<1>>(),
      kernel_of<QLGRUStep<2>>(),
      kernel_of<QLGRUStep<3>>(),
      kernel_of<QLRNNStep<1>>(),
      kernel_of<QLRNNStep<2>>(),
      kernel_of<Normed<MemoryStep<LSTMGates>>>(),
      kernel_of<Normed<GRUStep>>(),
      kernel_of<Normed<RNNStep>>(),
      kernel_of<Normed<MemoryStep<QLGates<1>>>>(),
      kernel_of<Normed<MemoryStep<QLGates<2>>>>(),
      kernel_of<Normed<MemoryStep<QLGates<4>>>>(),
      kernel_of<MinGRUStep>(),
      kernel_of<MinLSTMStep>(),
  };
  return kernels[kind];
}

inline void step_forward(const StepCall& call) {
  StepForward(call, kernel(call.kind).forward).run();
}

inline void step_once(StepCall& call, const OnceWeights& weights) {
  StepOnce(call, weights, kernel(call.kind).forward).run();
}

inline void step_backward(const StepCall& call, const StepBack& back) {
  StepBackward(call, back, kernel(call.kind).backward).run();
}

}  // namespace TR_TARGET
