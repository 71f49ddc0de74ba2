#include "state_pages.h"

#include "qlora/base/narrow.h"
#include "qlora/optim/adamw.h"
#include "qlora/tensor/own_stream.h"

#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace qlora::optim {
namespace {

// Of one moment in one window: long enough to hide a copy's latency, short enough that the first
// page is soon there.
constexpr std::int64_t kWindowBytes = kPagedDeviceBytes / 6;

}  // namespace

StatePages::StatePages(Moments host, c10::Device device)
    : host_(std::move(host)),
      elements_(kWindowBytes / static_cast<std::int64_t>(host_.m.element_size())),
      in_(tensor::own_stream(tensor::StreamUse::PagesIn, device)),
      out_(tensor::own_stream(tensor::StreamUse::PagesOut, device)) {
  const auto current = c10::cuda::getCurrentCUDAStream(device.index());
  for (Window& window : windows_) {
    window.moments = Moments::zeros(elements_, host_.eight_bit(), at::TensorOptions(device));
    // Neither may a window's memory be written while what had it before is still at work, nor may
    // it be given away while its last page leaves.
    window.left.record(current);
    for (const auto& [name, tensor] : window.moments.tensors()) {
      tensor.record_stream(in_.unwrap());
      tensor.record_stream(out_.unwrap());
    }
  }
}

std::int64_t StatePages::count() const { return div_up(host_.m.numel(), elements_); }

std::int64_t StatePages::end(std::int64_t page) const {
  return std::min(begin(page) + elements_, host_.m.numel());
}

void StatePages::update(std::int64_t page, const std::function<void()>& update) {
  Window& window = windows_[page % windows_.size()];
  Moments host = host_.slice(begin(page), end(page));
  Moments device = window.moments.slice(0, end(page) - begin(page));
  const auto compute = c10::cuda::getCurrentCUDAStream(in_.device_index());
  {
    // The window's last page has left, and with it every page before it: also this page's state of
    // the step before, which came through the same window.
    const c10::cuda::CUDAStreamGuard guard(in_);
    window.left.block(in_);
    device.copy_from(host);
    window.arrived.record(in_);
  }
  window.arrived.block(compute);
  update();
  window.updated.record(compute);
  const c10::cuda::CUDAStreamGuard guard(out_);
  window.updated.block(out_);
  host.copy_from(device);
  window.left.record(out_);
}

}  // namespace qlora::optim
