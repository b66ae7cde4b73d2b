#include "step.h"

#include "export.h"

using namespace TR_TARGET;

TR_EXPORT int tr_step_forward(const StepCall* call) {
  return done([&] { step_forward(*call); });
}

TR_EXPORT int tr_step_once(int kind, int options, size_t B, size_t I, size_t H, const float* x,
                           const float* h_before, const float* c_before, const float* w_x,
                           const float* w_h, const float* bias, const float* extra, float* y,
                           float* h, float* c) {
  return done([&] {
    step_once({B, I, H, x, h_before, c_before, {w_x, w_h, bias, extra}, y, h, c, kind, options});
  });
}

TR_EXPORT int tr_step_backward(const StepCall* call, const StepBack* back) {
  return done([&] { step_backward(*call, *back); });
}
