#pragma once
// What every kernel's face shares. Each op stands twice with one signature: kernels::cpu::x works
// on host memory with all cores and returns when done; kernels::cuda::x works on device memory of
// the current device, queues on `stream` and returns at once. Both give the same bits, NaN payloads
// aside, except where an op's header says how far they may lie apart; the same call on the same
// device always gives the same bits. A pointer, size or type that breaks a stated rule is a
// programmer's mistake.

#include "qlora/base/dtype.h"

#include <cstdint>

namespace qlora::kernels {

// A cudaStream_t (nullptr: the default stream); ignored by the CPU twins.
using Stream = void*;

enum class QuantType : std::uint8_t { NF4, FP4 };

// Elements per scale of a 4-bit tensor: a power of two in [kMinBlock, kMaxBlock].
inline constexpr std::int64_t kMinBlock = 32;
inline constexpr std::int64_t kMaxBlock = 4096;
inline constexpr std::int64_t kDefaultBlock = 64;
// Scales per second-level scale.
inline constexpr std::int64_t kNestedBlock = 256;

bool valid_block_size(std::int64_t block);

// Rows of a matrix in memory, `stride` elements apart: element (r, c) is data[r * stride + c].
struct ConstRows {
  const void* data = nullptr;
  std::int64_t stride = 0;
};
struct Rows {
  void* data = nullptr;
  std::int64_t stride = 0;
  operator ConstRows() const { return {data, stride}; }
};

// The scales of a 4-bit tensor of `blocks` blocks: plain float32, or nested (double quantization),
// where scale b is nested_map[codes[b]] * nested_values[b / 256] + offset, each step rounded.
struct Absmax {
  const float* values = nullptr;         // [blocks]; null when nested
  const std::uint8_t* codes = nullptr;   // [blocks]; null when plain
  const float* nested_values = nullptr;  // [ceil(blocks / 256)]
  const float* nested_map = nullptr;     // [256], as the checkpoint states it, else kSignedMap
  float offset = 0;
};

}  // namespace qlora::kernels
