#pragma once
// The scale of a block on host and device, and the CPU's block decoder.

#include "element.h"
#include "qlora/kernels/code_tables.h"

namespace qlora::kernels {

// A nested scale. The product is rounded before the addition: with a fused multiply-add one scale
// in six would differ in its last bit.
QLORA_HOST_DEVICE inline float nested_scale(float map_value, float nested_value, float offset) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(__fmul_rn(map_value, nested_value), offset);
#else
  return map_value * nested_value + offset;
#endif
}

// `map` is absmax.nested_map or a nearer copy of it.
QLORA_HOST_DEVICE inline float scale_of_block(const Absmax& absmax, std::int64_t block,
                                              const float* map) {
  if (absmax.codes == nullptr) return absmax.values[block];
  return nested_scale(map[absmax.codes[block]], absmax.nested_values[block / kNestedBlock],
                      absmax.offset);
}

// One block: out[i] = codes[nibble i of packed] * scale, i < n.
struct BlockToDecode {
  const Table<16>& codes;
  const std::uint8_t* packed;
  float scale;
  std::int64_t n;
};

// Elements decoded, a multiple of 8 (float32) or 32 (the others).
namespace avx2 {
std::int64_t decode(const BlockToDecode& block, float* out);
std::int64_t decode(const BlockToDecode& block, Float16* out);
std::int64_t decode(const BlockToDecode& block, BFloat16* out);
}  // namespace avx2

}  // namespace qlora::kernels
