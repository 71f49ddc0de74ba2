// Records what the device does through CUPTI, which LibTorch brings along.

#include "clock.h"
#include "gpu_activity.h"

#include <cupti.h>

#include <cstdlib>
#include <iterator>
#include <mutex>
#include <utility>

namespace qlora::train {
namespace {

constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};
constexpr std::size_t kBufferBytes = std::size_t{8} << 20;

// CUPTI's callbacks know nothing but their buffer, and may come from a thread of its own.
struct Records {
  std::mutex mutex;
  std::vector<DeviceRecord> list;
};
Records records;

template <class Activity>
void add(const CUpti_Activity* record, bool is_kernel) {
  const auto* activity = reinterpret_cast<const Activity*>(record);
  records.list.push_back({activity->start, activity->end, activity->correlationId, is_kernel});
}

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::malloc(kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext /*context*/, std::uint32_t /*stream*/, std::uint8_t* buffer,
                          std::size_t /*size*/, std::size_t valid_bytes) {
  const std::scoped_lock lock(records.mutex);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
    switch (record->kind) {
      case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: add<CUpti_ActivityKernel10>(record, true); break;
      case CUPTI_ACTIVITY_KIND_MEMCPY: add<CUpti_ActivityMemcpy6>(record, false); break;
      case CUPTI_ACTIVITY_KIND_MEMSET: add<CUpti_ActivityMemset4>(record, false); break;
      default: break;
    }
  }
  std::free(buffer);
}

// Switches the records on while it lives.
class Recording {
 public:
  Recording() {
    if (cuptiActivityRegisterCallbacks(give_buffer, take_buffer) != CUPTI_SUCCESS) return;
    while (enabled_ < std::size(kKinds) && cuptiActivityEnable(kKinds[enabled_]) == CUPTI_SUCCESS) {
      ++enabled_;
    }
  }
  ~Recording() {
    while (enabled_ > 0) cuptiActivityDisable(kKinds[--enabled_]);
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  bool is_on() const { return enabled_ == std::size(kKinds); }

  // Takes what was recorded so far. The device must be idle.
  static std::vector<DeviceRecord> take() {
    cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    const std::scoped_lock lock(records.mutex);
    return std::exchange(records.list, {});
  }

 private:
  std::size_t enabled_ = 0;
};

}  // namespace

std::optional<GpuActivity> record_gpu_activity(const std::function<void()>& work) {
  const Recording recording;
  if (!recording.is_on()) return std::nullopt;
  const auto start = std::chrono::steady_clock::now();
  work();
  const double wall = seconds_since(start);
  GpuActivity activity = summarize(Recording::take());
  if (activity.kernels == 0) return std::nullopt;
  activity.wall_seconds = wall;
  return activity;
}

}  // namespace qlora::train
