#pragma once
// Stored elements to the type a reader asked for, in pieces that stay in the cache.

#include "qlora/base/dtype.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

namespace qlora::io {

// n elements at `from` to float32.
using DecodeFunction = std::function<void(const std::byte* from, std::int64_t n, float* out)>;

// A run of stored elements; block_elements of them share block_bytes bytes.
struct StoredElements {
  const std::byte* bytes = nullptr;
  std::int64_t block_elements = 1;
  std::int64_t block_bytes = 1;
  std::optional<DType> dtype;  // empty for a block format
  DecodeFunction decode;       // empty for integers, which are only copied

  const std::byte* at(std::int64_t element) const {
    return bytes + element / block_elements * block_bytes;
  }
};

// Plain elements of a floating or integer type.
StoredElements plain_elements(const std::byte* bytes, DType dtype);

// Whether convert_elements can produce `out`: the stored type itself, or float32, bfloat16, float16
// from a floating one.
bool can_convert(const StoredElements& stored, DType out);

// Elements [begin, begin + n) to `destination`; both multiples of block_elements. A float64 is
// rounded to float32 first.
void convert_elements(const StoredElements& stored, std::int64_t begin, std::int64_t n, DType out,
                      std::byte* destination);

// The same on the threads of parallel_for.
void convert_elements_parallel(const StoredElements& stored, std::int64_t begin, std::int64_t n,
                               DType out, std::byte* destination);

}  // namespace qlora::io
