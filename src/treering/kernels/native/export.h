// What a file needs whose functions Python calls, by ctypes.
//
// Every such function returns 0, 1 when there was not enough memory, or 2 when threads could not be
// started.
#pragma once
#include <new>
#include <stdexcept>
#include <system_error>

#define TR_EXPORT extern "C" __attribute__((visibility("default")))

namespace TR_TARGET {

// An exception must not reach C.
template <class F>
inline int done(F&& f) {
  try {
    f();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  } catch (const std::length_error&) {
    return 1;
  } catch (const std::system_error&) {
    return 2;
  }
}

}  // namespace TR_TARGET
