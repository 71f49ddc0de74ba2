#include "qlora/io/tensor_view.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/text_util.h"

namespace qlora::io {

std::int64_t element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) fail("a tensor's shape {} has a negative dimension", shape_text(shape));
    count = checked_mul(count, dimension);
  }
  return count;
}

std::int64_t byte_count(const TensorSpec& spec) {
  return checked_mul(element_count(spec.shape), static_cast<std::int64_t>(size_of(spec.dtype)));
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::vector<std::string> sizes;
  for (const std::int64_t size : shape) sizes.push_back(std::to_string(size));
  return fmt::format("[{}]", join(sizes));
}

}  // namespace qlora::io
