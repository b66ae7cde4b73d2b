#include "threads.h"

#include <pthread.h>

#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// How long a worker that has nothing to do looks out for the next call before it sleeps: about
// what waking it costs. Longer would keep a core from PyTorch's own threads.
#ifndef TR_SPIN_MICROSECONDS
#define TR_SPIN_MICROSECONDS 30
#endif
constexpr auto LOOK_OUT = std::chrono::microseconds(TR_SPIN_MICROSECONDS);

// Tells the processor that this thread waits for another one.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// For what comes soon: spins, and gives the core away when it takes long.
template <class Ready>
void wait_until(Ready&& ready) {
  for (int spins = 0; !ready(); spins++) {
    if (spins < 300)
      relax();
    else
      std::this_thread::yield();
  }
}

}  // namespace

void Barrier::wait() {
  const uint32_t round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  wait_until([&] { return round_.load(std::memory_order_acquire) != round; });
}

namespace {

// Workers sleep between calls that are far apart. One call runs at a time; callers queue.
class Pool {
 public:
  void run(int threads, void (*f)(void*, int), void* context) {
    std::lock_guard<std::mutex> one_at_a_time(callers_);
    while (static_cast<int>(workers_.size()) < threads - 1) {
      const int index = static_cast<int>(workers_.size()) + 1;
      workers_.emplace_back([this, index, seen = call_.load()] { work(index, seen); });
    }
    f_ = f;
    context_ = context;
    running_.store(threads - 1, std::memory_order_relaxed);
    call_.store((call_.load() / MOST + 1) * MOST + threads);
    // Both orders are total here: either this sees a sleeper, or the sleeper has seen the call.
    if (sleeping_.load()) {
      std::lock_guard<std::mutex> lock(mutex_);
      pthread_cond_broadcast(&wake_);
    }
    f(context, 0);
    wait_until([this] { return running_.load(std::memory_order_acquire) == 0; });
  }

 private:
  static constexpr uint64_t MOST = 1 << 16;  // threads of a call

  void work(int index, uint64_t seen) {
    for (;;) {
      seen = next(seen);
      // The next call cannot be described before the threads of this one are done.
      if (static_cast<uint64_t>(index) >= seen % MOST) continue;
      f_(context_, index);
      running_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  // The number of a call that is not `seen`, as soon as there is one.
  uint64_t next(uint64_t seen) {
    const auto until = std::chrono::steady_clock::now() + LOOK_OUT;
    do {
      for (int spins = 0; spins < 32; spins++, relax())
        if (uint64_t call = call_.load(); call != seen) return call;
    } while (std::chrono::steady_clock::now() < until);
    std::lock_guard<std::mutex> lock(mutex_);
    sleeping_++;
    // Not std::condition_variable: its `wait` needs a libstdc++ as new as the compiler.
    while (call_.load() == seen) pthread_cond_wait(&wake_, mutex_.native_handle());
    sleeping_--;
    return call_.load();
  }

  std::mutex callers_, mutex_;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  std::vector<std::thread> workers_;
  void (*f_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::atomic<uint64_t> call_{0};  // number * MOST + threads
  std::atomic<int> running_{0}, sleeping_{0};
};

// Never destroyed: its threads would have to be joined while the process is being torn down. A
// forked child has none of them and starts with a pool of its own.
Pool* current = nullptr;

Pool& pool() {
  static const int registered = [] {
    current = new Pool;
    return pthread_atfork(nullptr, nullptr, [] { current = new Pool; });
  }();
  (void)registered;
  return *current;
}

// The threads of an OpenMP runtime, by the functions that compilers call.
struct Team {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*count)() = nullptr;
  int (*number)() = nullptr;
} team;

struct Work {
  void (*f)(void*, int);
  void* context;
  int threads;
  // Within another parallel region, and where threads are scarce, the team is smaller.
  std::atomic<bool> done{false};
};

void join_in(void* work) {
  Work& w = *static_cast<Work*>(work);
  if (team.count() != w.threads) return;
  w.done.store(true, std::memory_order_relaxed);
  w.f(w.context, team.number());
}

}  // namespace

void use_team(void* parallel, void* count, void* number) {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { team = Team{}; });
  (void)registered;
  std::memcpy(&team.parallel, &parallel, sizeof(parallel));
  std::memcpy(&team.count, &count, sizeof(count));
  std::memcpy(&team.number, &number, sizeof(number));
}

void run_on_threads(int threads, void (*f)(void*, int), void* context) {
  if (team.parallel) {
    Work work{f, context, threads};
    team.parallel(join_in, &work, static_cast<unsigned>(threads), 0);
    if (work.done.load(std::memory_order_relaxed)) return;
  }
  pool().run(threads, f, context);
}
