#pragma once
// The kernels' tables of tensors in the memory of the device that updates them.

#include "qlora/kernels/gradient_norm.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace qlora::optim {

class UpdateTables {
 public:
  using Tensors = std::vector<kernels::AdamWTensor>;

  // Makes these the tables. They are sent, in order with the current stream and without waiting,
  // only where something differs from those that are there.
  void set(const std::vector<Tensors>& tables, c10::Device device);

  kernels::AdamWTable at(std::size_t table) const;
  // For gradient_norm over the first table.
  void* norm_workspace() const { return workspace_.data_ptr(); }

 private:
  struct Place {  // of a table within memory_, in bytes
    std::int64_t tensors, owners;
    std::int64_t tensor_count, chunk_count;
  };

  std::vector<Tensors> wanted_;  // as given to set()
  std::vector<Place> places_;
  at::Tensor memory_;
  at::Tensor workspace_;
};

}  // namespace qlora::optim
