// Which library this is, and whether it may run here.
//
// Everything is compiled once for each target, into a library of its own. Structures are declared
// a second time in Python; `tr_size_of` lets it see that both are the same.
#include <cstring>

#include "export.h"
#include "step.h"
#include "threads.h"
#include "tree.h"

#define TR_NAME_OF(target) #target
#define TR_NAME(target) TR_NAME_OF(target)

using namespace TR_TARGET;

// To be raised whenever a function or structure below changes its meaning.
TR_EXPORT int tr_abi() { return 6; }

TR_EXPORT const char* tr_target() { return TR_NAME(TR_TARGET); }

// Whether this processor runs what was compiled for a target: 1, 0, or -1 for an unknown name.
// Only a library that runs everywhere may be asked, the portable one. What is asked for is what
// hatch_build.py lets the compiler use.
TR_EXPORT int tr_runs(const char* target) {
  if (!std::strcmp(target, "portable")) return 1;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!std::strcmp(target, "avx2")) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!std::strcmp(target, "avx512")) return avx512;
  if (!std::strcmp(target, "avx512bf16")) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return -1;
}

TR_EXPORT int tr_use_team(void* parallel, void* count, void* number) {
  use_team(parallel, count, number);
  return 0;
}

TR_EXPORT size_t tr_size_of(const char* structure) {
#define TR_SIZE(name, ...) \
  if (!std::strcmp(structure, #name)) return sizeof(name __VA_ARGS__)
  // Pointers, whatever the numbers are.
  TR_SIZE(TreeCall, <float>);
  TR_SIZE(TreeBack, <float>);
  TR_SIZE(StepCall);
  TR_SIZE(StepBack);
#undef TR_SIZE
  return 0;
}
