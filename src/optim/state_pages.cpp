#include "qlora/optim/state_pages.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/adamw.h"

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

namespace qlora::optim {
namespace {

using kernels::kAdamWBlock;

// 4 Mi elements: 8 MiB of codes a window, long enough to hide a copy's latency.
constexpr std::int64_t kWindowElements = std::int64_t{4} << 20;

// The part of a per-element or per-block tensor that belongs to elements [begin, end).
at::Tensor part_of(const at::Tensor& whole, bool per_block, std::int64_t begin, std::int64_t end) {
  if (!whole.defined()) return {};
  if (!per_block) return whole.slice(0, begin, end);
  return whole.slice(0, begin / kAdamWBlock, div_up(end, kAdamWBlock));
}

MomentState slice(const MomentState& s, std::int64_t begin, std::int64_t end) {
  return {.m = part_of(s.m, false, begin, end),
          .v = part_of(s.v, false, begin, end),
          .m_absmax = part_of(s.m_absmax, true, begin, end),
          .v_absmax = part_of(s.v_absmax, true, begin, end),
          .paged = false};
}

void copy(const MomentState& from, MomentState& to) {
  const auto copy_one = [](const at::Tensor& source, at::Tensor& target) {
    if (source.defined()) target.copy_(source, /*non_blocking=*/true);
  };
  copy_one(from.m, to.m);
  copy_one(from.v, to.v);
  copy_one(from.m_absmax, to.m_absmax);
  copy_one(from.v_absmax, to.v_absmax);
}

}  // namespace

std::vector<std::pair<std::string_view, at::Tensor>> MomentState::tensors() const {
  std::vector<std::pair<std::string_view, at::Tensor>> result{{"m", m}, {"v", v}};
  if (eight_bit()) {
    result.emplace_back("m_absmax", m_absmax);
    result.emplace_back("v_absmax", v_absmax);
  }
  return result;
}

MomentState make_state(const at::Tensor& parameter, bool eight_bit, bool paged) {
  const std::int64_t n = parameter.numel();
  const bool pages = paged && parameter.is_cuda();
  const auto options =
      at::TensorOptions(pages ? c10::Device(c10::kCPU) : parameter.device()).pinned_memory(pages);
  const auto zeros = [&](std::int64_t size, at::ScalarType dtype) {
    return at::zeros({size}, options.dtype(dtype));
  };
  MomentState state{.m = {}, .v = {}, .m_absmax = {}, .v_absmax = {}, .paged = pages};
  state.m = zeros(n, eight_bit ? at::kByte : at::kFloat);
  state.v = zeros(n, eight_bit ? at::kByte : at::kFloat);
  if (eight_bit) {
    state.m_absmax = zeros(div_up(n, kAdamWBlock), at::kFloat);
    state.v_absmax = zeros(div_up(n, kAdamWBlock), at::kFloat);
  }
  return state;
}

// Two windows used in turn. `left` is recorded when a window's contents are back on the host.
struct StatePager::Windows {
  struct Window {
    MomentState eight_bit;
    MomentState full;
    at::cuda::CUDAEvent arrived, updated, left;
  };

  explicit Windows(c10::Device device)
      : in(c10::cuda::getStreamFromPool(false, device.index())),
        out(c10::cuda::getStreamFromPool(false, device.index())) {
    const at::Tensor like = at::empty({kWindowElements}, at::TensorOptions(device));
    for (Window& window : windows) {
      window.eight_bit = make_state(like, true, false);
      window.full = make_state(like, false, false);
    }
  }

  c10::cuda::CUDAStream in, out;
  std::array<Window, 2> windows;
  std::size_t next = 0;
};

StatePager::StatePager() = default;
StatePager::~StatePager() = default;
StatePager::StatePager(StatePager&&) noexcept = default;
StatePager& StatePager::operator=(StatePager&&) noexcept = default;

void StatePager::update(const MomentState& state, std::int64_t elements,
                        const UpdateRange& update) {
  if (!state.paged) {
    update(state, 0, elements);
    return;
  }
  const auto compute = c10::cuda::getCurrentCUDAStream();
  if (!windows_) windows_ = std::make_unique<Windows>(compute.device());
  for (std::int64_t begin = 0; begin < elements; begin += kWindowElements) {
    const std::int64_t end = std::min(begin + kWindowElements, elements);
    Windows::Window& window = windows_->windows[windows_->next++ % windows_->windows.size()];
    MomentState host = slice(state, begin, end);
    MomentState device = slice(state.eight_bit() ? window.eight_bit : window.full, 0, end - begin);
    {
      const c10::cuda::CUDAStreamGuard guard(windows_->in);
      window.left.block(windows_->in);
      copy(host, device);
      window.arrived.record(windows_->in);
    }
    window.arrived.block(compute);
    update(device, begin, end);
    window.updated.record(compute);
    const c10::cuda::CUDAStreamGuard guard(windows_->out);
    window.updated.block(windows_->out);
    copy(device, host);
    window.left.record(windows_->out);
  }
}

void StatePager::synchronize() const {
  if (windows_) windows_->out.synchronize();
}

}  // namespace qlora::optim
