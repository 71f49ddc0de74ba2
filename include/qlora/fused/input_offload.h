#pragma once
// The inputs of layers in pinned host memory between the forward and the backward pass, while two
// slots on the device serve all layers in turn. Copies run beside the layers' work, on a stream of
// their own; everything is only queued, and may be captured into CUDA graphs.

#include "qlora/kernels/types.h"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace qlora::fused {

// Layers i and i + 2 use the same slot.
inline constexpr std::size_t kInputSlots = 2;

class InputOffload {
 public:
  // layer_bytes: the most bytes of one input. Throws Error where the host has no such memory.
  InputOffload(std::size_t layers, std::int64_t layer_bytes);
  ~InputOffload();
  InputOffload(const InputOffload&) = delete;
  InputOffload& operator=(const InputOffload&) = delete;

  // x, the input of `layer`, is written by what was queued on `stream` so far: its copy to the host
  // begins after that. The slots still hold the last layers' inputs when backward begins; those are
  // not copied, in neither direction.
  void save(std::size_t layer, const void* x, std::int64_t bytes, kernels::Stream stream);
  // Back into the layer's slot, once what was queued on `stream` so far is done.
  void load(std::size_t layer, void* x, std::int64_t bytes, kernels::Stream stream);
  // What is queued on `stream` from now on waits for the last copy of the layer in the same pass.
  void wait(std::size_t layer, kernels::Stream stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qlora::fused
