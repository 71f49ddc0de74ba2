#pragma once
// Device memory for the tests that compare a CUDA kernel with its CPU twin.

#include "kernels/support.h"
#include "qlora/kernels/cuda_check.h"

#include <cuda_runtime_api.h>

#include <algorithm>

namespace qlora::kernels::test {

// Skips without a GPU, or fails where QLORA_REQUIRE_GPU=1.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return;
    if (qlora::test::must_not_skip()) FAIL() << "QLORA_REQUIRE_GPU=1, but there is no CUDA device";
    GTEST_SKIP() << "no CUDA device on this machine";
  }
};

// A copy of host bytes on the device, between guards; 16-byte aligned plus `misalign`.
class OnDevice {
 public:
  explicit OnDevice(std::span<const std::byte> bytes, std::int64_t misalign = 0)
      : size_(bytes.size()), first_(kGuard + static_cast<std::size_t>(misalign)) {
    std::vector<std::byte> image(size_ + first_ + kGuard, kGuardByte);
    std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(first_));
    QLORA_CUDA(cudaMalloc(&memory_, image.size()));
    QLORA_CUDA(cudaMemcpy(memory_, image.data(), image.size(), cudaMemcpyHostToDevice));
  }
  template <class T>
  explicit OnDevice(const std::vector<T>& values) : OnDevice(std::as_bytes(std::span(values))) {}
  ~OnDevice() { cudaFree(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  template <class T = void>
  T* data() {
    return reinterpret_cast<T*>(static_cast<std::byte*>(memory_) + first_);
  }

  // Waits for the device, checks the guards, and gives the bytes.
  std::vector<std::byte> download() const {
    std::vector<std::byte> image(size_ + first_ + kGuard);
    QLORA_CUDA(cudaDeviceSynchronize());
    QLORA_CUDA(cudaMemcpy(image.data(), memory_, image.size(), cudaMemcpyDeviceToHost));
    const auto intact = [](std::byte byte) { return byte == kGuardByte; };
    const auto begin = image.begin() + static_cast<std::ptrdiff_t>(first_);
    const auto end = begin + static_cast<std::ptrdiff_t>(size_);
    EXPECT_TRUE(std::all_of(image.begin(), begin, intact)) << "bytes before";
    EXPECT_TRUE(std::all_of(end, image.end(), intact)) << "bytes after";
    return {begin, end};
  }

 private:
  static constexpr std::size_t kGuard = 256;
  static constexpr std::byte kGuardByte{0x5a};
  void* memory_ = nullptr;
  std::size_t size_;
  std::size_t first_;
};

// The device's bytes equal the CPU twin's.
template <class T>
void expect_same(const OnDevice& device, const std::vector<T>& host, const std::string& where) {
  EXPECT_EQ(first_difference(device.download(), std::as_bytes(std::span(host))), -1) << where;
}

}  // namespace qlora::kernels::test
