#include "step_kernels.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_step_forward(const StepCall* call) {
  return done([&] { step_forward(*call); });
}

// One token. Single arguments, for a structure takes Python longer to fill than C++ to compute.
TR_EXPORT int tr_step_once(int kind, int options, float zoneout, size_t B, size_t I, size_t H,
                           const float* x, const float* h_before, const float* c_before,
                           const float* w_x, const float* w_h, const float* bias,
                           const float* extra, float* y, float* h, float* c) {
  return done([&] {
    StepCall call{};
    call.T = 1, call.B = B, call.I = I, call.H = H;
    call.kind = kind, call.options = options, call.threads = 1, call.zoneout = zoneout;
    call.x = x, call.x_time = static_cast<int64_t>(B * I), call.x_row = static_cast<int64_t>(I);
    call.weights = {w_x, w_h, bias, extra};
    call.h_first = h_before, call.c_first = c_before;
    call.y = y, call.c = c, call.h_last = h;
    step_once(call);
  });
}

TR_EXPORT int tr_step_backward(const StepCall* call, const StepBack* back) {
  return done([&] { step_backward(*call, *back); });
}
