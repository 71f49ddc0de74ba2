#include "checks.h"

#include "qlora/base/error.h"

#include <bit>

namespace qlora::kernels {

bool valid_block_size(std::int64_t block) {
  return block >= kMinBlock && block <= kMaxBlock &&
         std::has_single_bit(static_cast<std::uint64_t>(block));
}

void unsupported_dtype(const char* kernel, DType dtype) {
  fail("{}: expected float32, float16 or bfloat16 elements, got {}", kernel, name_of(dtype));
}

void check_block_size(std::int64_t block) { QLORA_ASSERT(valid_block_size(block)); }

void check_range(std::int64_t begin, std::int64_t end, std::int64_t block) {
  check_block_size(block);
  QLORA_ASSERT(0 <= begin && begin <= end && begin % block == 0);
}

void check_count(std::int64_t count, std::int64_t most) { QLORA_ASSERT(count <= most); }

void check_dropout_rate(float p) { QLORA_ASSERT(p >= 0 && p < 1); }

void check_alignment(const void* pointer, std::size_t bytes) {
  QLORA_ASSERT(reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0);
}

void check_rows(ConstRows x, std::int64_t cols) {
  QLORA_ASSERT(x.data != nullptr && x.stride >= cols);
}

}  // namespace qlora::kernels
