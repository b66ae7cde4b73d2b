// Large pages for large buffers: the first touch of ordinary ones takes longer than the arithmetic.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

// A wish, for fresh memory that will be written from end to end; nothing where it is small.
template <class E>
inline void large_pages(E* p, size_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = 1 << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + PAGE - 1) / PAGE * PAGE;
  const uintptr_t end = reinterpret_cast<uintptr_t>(p + count) / PAGE * PAGE;
  if (begin + PAGE < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)p, (void)count;
#endif
}
