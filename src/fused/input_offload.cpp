#include "qlora/fused/input_offload.h"

#include "qlora/base/error.h"
#include "qlora/base/text_util.h"
#include "qlora/kernels/cuda_check.h"

#include <cuda_runtime_api.h>

#include <vector>

namespace qlora::fused {

struct InputOffload::State {
  std::int64_t layer_bytes = 0;
  std::byte* host = nullptr;
  cudaStream_t copies = nullptr;
  cudaEvent_t ready = nullptr;      // what a copy waits for
  std::vector<cudaEvent_t> copied;  // of each layer that is copied at all

  ~State() {
    for (const cudaEvent_t event : copied) cudaEventDestroy(event);
    if (ready != nullptr) cudaEventDestroy(ready);
    if (copies != nullptr) cudaStreamDestroy(copies);
    cudaFreeHost(host);
  }

  void copy(std::size_t layer, void* to, const void* from, std::int64_t bytes,
            cudaMemcpyKind direction, kernels::Stream stream) {
    if (layer >= copied.size()) return;
    QLORA_ASSERT(bytes <= layer_bytes);
    QLORA_CUDA(cudaEventRecord(ready, static_cast<cudaStream_t>(stream)));
    QLORA_CUDA(cudaStreamWaitEvent(copies, ready, 0));
    QLORA_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), direction, copies));
    QLORA_CUDA(cudaEventRecord(copied[layer], copies));
  }
  std::byte* place(std::size_t layer) const {
    return host + static_cast<std::int64_t>(layer) * layer_bytes;
  }
};

InputOffload::InputOffload(std::size_t layers, std::int64_t layer_bytes)
    : state_(std::make_unique<State>()) {
  state_->layer_bytes = layer_bytes;
  const auto make_event = [] {
    cudaEvent_t event = nullptr;
    QLORA_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  };
  QLORA_CUDA(cudaStreamCreateWithFlags(&state_->copies, cudaStreamNonBlocking));
  state_->ready = make_event();
  const std::size_t count = layers > kInputSlots ? layers - kInputSlots : 0;
  for (std::size_t i = 0; i < count; ++i) state_->copied.push_back(make_event());
  const std::size_t bytes = count * static_cast<std::size_t>(layer_bytes);
  if (bytes == 0) return;
  void* host = nullptr;
  if (cudaHostAlloc(&host, bytes, cudaHostAllocDefault) != cudaSuccess) {
    cudaGetLastError();
    fail(
        "the host has no {} of pinned memory for the layers' inputs; set "
        "training.activation_offloading: false",
        human_bytes(static_cast<std::int64_t>(bytes)));
  }
  state_->host = static_cast<std::byte*>(host);
}

InputOffload::~InputOffload() = default;

void InputOffload::save(std::size_t layer, const void* x, std::int64_t bytes,
                        kernels::Stream stream) {
  state_->copy(layer, state_->place(layer), x, bytes, cudaMemcpyDeviceToHost, stream);
}

void InputOffload::load(std::size_t layer, void* x, std::int64_t bytes, kernels::Stream stream) {
  state_->copy(layer, x, state_->place(layer), bytes, cudaMemcpyHostToDevice, stream);
}

void InputOffload::wait(std::size_t layer, kernels::Stream stream) {
  if (layer >= state_->copied.size()) return;
  QLORA_CUDA(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), state_->copied[layer], 0));
}

}  // namespace qlora::fused
