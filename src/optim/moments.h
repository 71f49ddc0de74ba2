#pragma once
// The moments of many tensors side by side in a few long ones, so that pages over them may cross
// the tensors' borders.

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

namespace qlora::optim {

// The moments of n elements. 8 bit: codes uint8 [n], absmax float32 [ceil(n / 256)]; 32 bit: m and
// v float32 [n], no absmax.
struct Moments {
  at::Tensor m, v;
  at::Tensor m_absmax, v_absmax;

  // All zero. `options`: where they lie.
  static Moments zeros(std::int64_t n, bool eight_bit, const at::TensorOptions& options);

  bool eight_bit() const { return m_absmax.defined(); }
  // The defined tensors with their names, m first.
  std::vector<std::pair<std::string_view, at::Tensor>> tensors() const;
  // A view of elements [begin, end); begin is a multiple of 256.
  Moments slice(std::int64_t begin, std::int64_t end) const;
  // Queues a copy of everything on the current stream.
  void copy_from(const Moments& source);
};

}  // namespace qlora::optim
