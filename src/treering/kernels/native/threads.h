// A few threads that run the same function and meet at barriers.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

// Meeting point of `count` threads; they spin, and give the core away when it takes long.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait();

 private:
  const int count_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> round_{0};
};

// Run f(context, thread) on `threads` threads, this one among them; returns when all are done.
void run_on_threads(int threads, void (*f)(void*, int), void* context);

// From now on the threads of an OpenMP runtime, by its GOMP_parallel, omp_get_num_threads and
// omp_get_thread_num: what has just worked for somebody else is still awake, and would otherwise
// be in the way. A forked child, where that runtime would hang, has a pool of its own again.
void use_team(void* parallel, void* count, void* number);

template <class F>
void on_threads(int threads, F&& f) {
  if (threads <= 1) return f(0);
  run_on_threads(
      threads, [](void* context, int thread) { (*static_cast<F*>(context))(thread); }, &f);
}

// Share of [0, n) that thread `t` of `threads` does.
struct Share {
  size_t begin, end;
};
inline Share share(size_t n, int t, int threads) {
  return {n * t / threads, n * (t + 1) / threads};
}
