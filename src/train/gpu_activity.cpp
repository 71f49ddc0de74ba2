#include "gpu_activity.h"

#include <algorithm>
#include <set>

namespace qlora::train {

GpuActivity summarize(std::vector<DeviceRecord> records) {
  std::ranges::sort(records, {}, &DeviceRecord::begin);
  GpuActivity activity;
  std::set<std::uint32_t> calls;
  std::uint64_t covered = 0, reached = 0;
  for (const DeviceRecord& record : records) {
    activity.kernels += record.is_kernel ? 1 : 0;
    calls.insert(record.call);
    const std::uint64_t begin = std::max(record.begin, reached);
    if (record.end <= begin) continue;
    covered += record.end - begin;
    reached = record.end;
  }
  activity.host_launches = static_cast<std::int64_t>(calls.size());
  activity.busy_seconds = static_cast<double>(covered) * 1e-9;
  return activity;
}

}  // namespace qlora::train
