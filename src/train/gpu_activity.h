#pragma once
// What a GPU did while some work ran.

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace qlora::train {

struct GpuActivity {
  std::int64_t kernels = 0;        // that ran, those of CUDA graphs one by one
  std::int64_t host_launches = 0;  // calls that queued kernels, copies or fills; a graph is one
  double busy_seconds = 0;         // while at least one kernel, copy or fill was running
  double wall_seconds = 0;         // of the work
};

// Runs `work`, which waits for the device before it returns, with CUPTI's records switched on,
// which slows the host a little. Nothing where this build has no CUPTI, or CUPTI refuses (another
// profiler is attached); the work may then not have been run.
std::optional<GpuActivity> record_gpu_activity(const std::function<void()>& work);

// A kernel, copy or fill. Times are nanoseconds; `call` numbers the host's call that queued it.
struct DeviceRecord {
  std::uint64_t begin = 0, end = 0;
  std::uint32_t call = 0;
  bool is_kernel = false;
};

// All but the wall time.
GpuActivity summarize(std::vector<DeviceRecord> records);

}  // namespace qlora::train
