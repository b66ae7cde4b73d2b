// What Python calls, by ctypes. Compiled once for each target, into a library of its own.
//
// Every function returns 0, or 1 when there was not enough memory. Structures are declared a
// second time in Python; `tr_size_of` lets it see that both are the same.
#include <cstring>
#include <new>
#include <stdexcept>

#include "step.h"
#include "tree.h"

#define TR_EXPORT extern "C" __attribute__((visibility("default")))
#define TR_NAME_OF(target) #target
#define TR_NAME(target) TR_NAME_OF(target)

namespace {

// An exception must not reach C.
template <class F>
int done(F&& f) {
  try {
    f();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  } catch (const std::length_error&) {
    return 1;
  }
}

}  // namespace

using namespace TR_TARGET;

// To be raised whenever a function or structure below changes its meaning.
TR_EXPORT int tr_abi() { return 3; }

TR_EXPORT const char* tr_target() { return TR_NAME(TR_TARGET); }

// Whether this processor runs what was compiled for a target: 1, 0, or -1 for an unknown name.
// Only a library that runs everywhere may be asked, the portable one. What is asked for is what
// hatch_build.py lets the compiler use.
TR_EXPORT int tr_runs(const char* target) {
  if (!std::strcmp(target, "portable")) return 1;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!std::strcmp(target, "avx2")) return avx2;
  if (!std::strcmp(target, "avx512"))
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#endif
  return -1;
}

TR_EXPORT size_t tr_size_of(const char* structure) {
#define TR_SIZE(name) \
  if (!std::strcmp(structure, #name)) return sizeof(name)
  TR_SIZE(TreeCall);
  TR_SIZE(TreeBack);
  TR_SIZE(StepCall);
  TR_SIZE(StepBack);
#undef TR_SIZE
  return 0;
}

TR_EXPORT int tr_tree_forward(const TreeCall* call) {
  return done([&] { TreeForward(*call).run(); });
}

TR_EXPORT int tr_tree_backward(const TreeCall* call, const TreeBack* back) {
  return done([&] { TreeBackward(*call, *back).run(); });
}

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
