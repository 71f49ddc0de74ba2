#pragma once
// Where the optimizer's moments live: beside the parameter, or in pinned host memory from which
// they stream through a small window on the GPU.

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace qlora::optim {

// The moments of one parameter of n elements. 8 bit: codes uint8 [n], absmax float32 [ceil(n/256)];
// 32 bit: m and v float32 [n], no absmax. Paged tensors lie in pinned host memory.
struct MomentState {
  at::Tensor m, v;
  at::Tensor m_absmax, v_absmax;
  bool paged = false;

  bool eight_bit() const { return m_absmax.defined(); }
  // The defined tensors with their names, m first.
  std::vector<std::pair<std::string_view, at::Tensor>> tensors() const;
};

MomentState make_state(const at::Tensor& parameter, bool eight_bit, bool paged);

// Gives `update` the state of elements [begin, end) of one parameter on the parameter's device.
using UpdateRange =
    std::function<void(const MomentState& part, std::int64_t begin, std::int64_t end)>;

// Runs updates over whole parameters. A resident state is one range. A paged one is cut into
// windows: while one is updated, the next one arrives and the previous one leaves, on two streams
// of their own. On return everything is queued and in order with later work on the current stream;
// the host may read paged state only after synchronize().
class StatePager {
 public:
  StatePager();
  ~StatePager();
  StatePager(StatePager&&) noexcept;
  StatePager& operator=(StatePager&&) noexcept;

  void update(const MomentState& state, std::int64_t elements, const UpdateRange& update);
  // Waits until every paged state is back in host memory.
  void synchronize() const;

 private:
  struct Windows;
  std::unique_ptr<Windows> windows_;  // made at the first paged update
};

}  // namespace qlora::optim
