#pragma once
// The tensors of an optimizer step as one table, so that one launch serves them all.

#include "qlora/base/philox.h"
#include "qlora/kernels/types.h"

#include <span>
#include <vector>

namespace qlora::kernels {

// Elements that share the scale of their 8-bit state.
inline constexpr std::int64_t kAdamWBlock = 256;
// Elements per entry of a table's list of owners, and per partial sum of a gradient's norm.
inline constexpr std::int64_t kAdamWChunk = 16384;

// What the matrix products read in place of a parameter: each update rewrites it. Element e of the
// parameter lies at row (first + e) / columns and column (first + e) % columns, and
//   data[row * pitch + column] = T(float32(parameter) * scale).
struct ComputeCopy {
  void* data = nullptr;  // null: there is no copy
  DType dtype = DType::BFloat16;
  float scale = 1;           // LoRA's alpha / r, folded into B
  std::int64_t first = 0;    // over 0 where the table has a part of the parameter
  std::int64_t columns = 1;  // of the parameter
  std::int64_t pitch = 1;    // elements from one row of the copy to the next

  bool operator==(const ComputeCopy&) const = default;
};

// One parameter, or a part of one that begins at a multiple of kAdamWBlock.
struct AdamWTensor {
  void* param = nullptr;      // [n] float32, float16 or bfloat16
  void* grad = nullptr;       // [n] float32 or of the parameter's type
  void* m = nullptr;          // [n] codes of kSignedMap, or float32
  void* v = nullptr;          // [n] codes of kUnsignedMap, or float32
  float* m_absmax = nullptr;  // [ceil(n / 256)]; null: the state is float32
  float* v_absmax = nullptr;  // [ceil(n / 256)]
  std::int64_t n = 0;         // at least 1
  DType param_dtype = DType::Float32;
  DType grad_dtype = DType::Float32;
  bool decay = true;  // weight decay applies
  ComputeCopy copy;

  // Set by number_chunks.
  bool aligned = false;          // every address allows accesses of four elements
  std::int64_t first_chunk = 0;  // the tensor's chunks follow each other from here

  QLORA_HOST_DEVICE bool eight_bit() const { return m_absmax != nullptr; }
  bool operator==(const AdamWTensor&) const = default;
};

// A table as the kernels take it: everything in the memory that they work on.
struct AdamWTable {
  const AdamWTensor* tensors = nullptr;  // [tensor_count]
  const std::int32_t* owners = nullptr;  // [chunk_count], the tensor that a chunk is of
  std::int64_t tensor_count = 0;
  std::int64_t chunk_count = 0;
};

// Completes the tensors of a table and returns its owners. Throws Error for a type that the
// kernels do not take.
std::vector<std::int32_t> number_chunks(std::span<AdamWTensor> tensors);

}  // namespace qlora::kernels
