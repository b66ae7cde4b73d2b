#include "step_kernels.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_step_forward(const StepCall* call) {
  return done([&] { step_forward(*call); });
}

// One token. Single arguments, for a structure takes Python longer to fill than C++ to compute.
TR_EXPORT int tr_step_once(int kind, int options, float zoneout, size_t B, size_t I, size_t H,
                           const float* x, const float* h_before, const float* c_before, float* y,
                           float* h, float* c, const float* w_x, const float* w_h,
                           const float* w_x_beyond, const float* w_h_beyond, const float* bias_x,
                           const float* bias_h, const float* bias, const float* extra,
                           const float* scale, const float* shift, const float* alpha,
                           size_t alphas, float alpha_value) {
  return done([&] {
    StepCall call{};
    call.T = 1, call.B = B, call.I = I, call.H = H;
    call.kind = kind, call.options = options, call.threads = 1, call.zoneout = zoneout;
    call.x = x, call.x_time = static_cast<int64_t>(B * I), call.x_row = static_cast<int64_t>(I);
    call.h_first = h_before, call.c_first = c_before;
    call.y = y, call.c = c, call.h_last = h;
    const OnceWeights weights{{w_x, w_x_beyond}, {w_h, w_h_beyond}, bias_x, bias_h, bias, extra,
                              scale, shift, alpha, alphas, alpha_value};
    step_once(call, weights);
  });
}

TR_EXPORT int tr_step_backward(const StepCall* call, const StepBack* back) {
  return done([&] { step_backward(*call, *back); });
}
