#include "qlora/kernels/copy_rows.h"

#include "qlora/base/error.h"

#include <cstring>

namespace qlora::kernels::cpu {

void copy_rows(const RowCopy& copy, const std::int32_t* rows, std::int64_t most_rows, Stream) {
  QLORA_ASSERT(*rows >= 0 && *rows <= most_rows);
  for (std::int64_t row = 0; row < *rows; ++row) {
    std::memcpy(static_cast<std::byte*>(copy.to) + row * copy.to_stride,
                static_cast<const std::byte*>(copy.from) + row * copy.from_stride,
                static_cast<std::size_t>(copy.bytes));
  }
}

}  // namespace qlora::kernels::cpu
