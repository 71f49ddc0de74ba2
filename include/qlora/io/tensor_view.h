#pragma once
// A tensor that lies in somebody else's memory (usually a mapped file), and the description of one
// that is still to be written.

#include "qlora/base/dtype.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::io {

// Row-major, little-endian. `bytes` need not be aligned to the element size.
struct TensorView {
  std::string name;
  DType dtype = DType::Float32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::Float32;
  std::vector<std::int64_t> shape;
};

// Product of the dimensions (1 for a scalar). Throws Error on a negative dimension or overflow.
std::int64_t element_count(std::span<const std::int64_t> shape);

// element_count times the element size.
std::int64_t byte_count(const TensorSpec& spec);

// "[512, 64]", for messages.
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace qlora::io
