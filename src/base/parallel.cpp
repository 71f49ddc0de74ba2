#include "qlora/base/parallel.h"

#include "qlora/base/narrow.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace qlora {
namespace {

void run_on_threads(std::int64_t n, std::int64_t grain, const RangeFunction& body) {
  const std::int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::int64_t parts =
      std::clamp<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1, cores);
  const std::int64_t length = div_up(n, parts);
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto run = [&](std::int64_t begin) {
    try {
      body(begin, std::min(begin + length, n));
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (std::int64_t begin = length; begin < n; begin += length) threads.emplace_back(run, begin);
  if (n > 0) run(0);
  for (auto& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

std::atomic<ParallelBackend> backend = &run_on_threads;

}  // namespace

void parallel_for(std::int64_t n, std::int64_t grain, const RangeFunction& body) {
  backend.load()(n, grain, body);
}

void set_parallel_backend(ParallelBackend replacement) { backend = replacement; }

}  // namespace qlora
