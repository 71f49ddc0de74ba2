#include "update_tables.h"

#include "qlora/base/narrow.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstring>

namespace qlora::optim {
namespace {

// Appends the bytes of `values` and returns where they begin, a multiple of 16.
template <class T>
std::int64_t append(const std::vector<T>& values, std::vector<std::byte>& image) {
  const std::size_t begin = round_up<std::size_t>(image.size(), 16);
  const std::size_t size = values.size() * sizeof(T);
  image.resize(begin + size);
  if (size > 0) std::memcpy(image.data() + begin, values.data(), size);
  return narrow<std::int64_t>(begin);
}

}  // namespace

void UpdateTables::set(const std::vector<Tensors>& tables, c10::Device device) {
  if (tables == wanted_) return;
  wanted_ = tables;
  places_.clear();
  std::vector<std::byte> image;
  for (Tensors tensors : tables) {
    const std::vector<std::int32_t> owners = kernels::number_chunks(tensors);
    places_.push_back({.tensors = append(tensors, image),
                       .owners = append(owners, image),
                       .tensor_count = narrow<std::int64_t>(tensors.size()),
                       .chunk_count = narrow<std::int64_t>(owners.size())});
  }
  const auto bytes = at::TensorOptions(at::kByte);
  // LibTorch keeps a pinned tensor's memory from others until the copy from it is done.
  const at::Tensor pinned =
      at::empty({narrow<std::int64_t>(image.size())}, bytes.pinned_memory(device.is_cuda()));
  std::memcpy(pinned.data_ptr(), image.data(), image.size());
  memory_ = pinned.to(device, /*non_blocking=*/true);
  workspace_ = at::zeros({kernels::gradient_norm_workspace(at(0))}, bytes.device(device));
}

kernels::AdamWTable UpdateTables::at(std::size_t table) const {
  const Place& place = places_.at(table);
  const auto* memory = static_cast<const std::byte*>(memory_.const_data_ptr());
  return {.tensors = reinterpret_cast<const kernels::AdamWTensor*>(memory + place.tensors),
          .owners = reinterpret_cast<const std::int32_t*>(memory + place.owners),
          .tensor_count = place.tensor_count,
          .chunk_count = place.chunk_count};
}

}  // namespace qlora::optim
