// The pool: every thread runs, once; barriers hold; callers of different sizes queue.
#include "threads.h"

#include <chrono>
#include <thread>

#include "check.h"

static void once(int threads, int rounds) {
  std::vector<int> seen(threads * rounds);  // unguarded: only barriers keep the rounds apart
  Barrier barrier(threads);
  on_threads(threads, [&](int thread) {
    for (int r = 0; r < rounds; r++) {
      if (r)
        for (int t = 0; t < threads; t++)
          CHECK(seen[(r - 1) * threads + t] == 1, "thread %d is behind in round %d", t, r);
      seen[r * threads + thread]++;
      barrier.wait();
    }
  });
  for (int s : seen) CHECK(s == 1, "ran %d times", s);
}

int main() {
  for (int threads : {1, 2, 3, 5, 2, 7, 1, 4}) once(threads, 5);
  for (int call = 0; call < 300; call++) once(1 + call % 4, 2);
  // Workers that went to sleep are woken.
  for (int call = 0; call < 20; call++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    once(3, 1);
  }
  std::vector<std::thread> callers;
  for (int threads = 1; threads <= 4; threads++)
    callers.emplace_back([threads] {
      for (int call = 0; call < 50; call++) once(threads, 2);
    });
  for (std::thread& caller : callers) caller.join();
  for (size_t n : {0, 1, 5, 100})
    for (int threads : {1, 3, 7}) {
      size_t next = 0;
      for (int t = 0; t < threads; t++) {
        const Share mine = share(n, t, threads);
        CHECK(mine.begin == next && mine.end >= mine.begin, "share %d of %zu", t, n);
        next = mine.end;
      }
      CHECK(next == n, "%zu of %zu", next, n);
    }
  return finish();
}
