#include "qlora/kernels/dequantize_4bit.h"

#include "checks.h"
#include "decode_4bit.h"
#include "launch.cuh"

#include <bit>
#include <type_traits>

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kUnitsPerThread = 4;

__constant__ Table<16> code_values[2] = {kNf4Codes, kFp4Codes};

// Codes of one 16-byte store: 4 in two bytes for float32, 8 in four bytes for the 16-bit types.
template <class T>
using CodeWord = std::conditional_t<kUnit<T> == 4, std::uint16_t, std::uint32_t>;

// The range of elements that one launch decodes; `packed` and `out` point at its first element.
struct Range {
  QuantType type;
  const std::uint8_t* packed;
  Absmax absmax;
  std::int64_t first_block;
  int block_shift;  // log2 of the block size
  std::int64_t count;
};

// What a CUDA block keeps near: the 4-bit code values and the map of nested scales.
struct Tables {
  float codes[16];
  float nested_map[256];
};

__device__ void fill(const Range& range, Tables& tables) {
  const int i = threadIdx.x;
  if (i < 16) tables.codes[i] = code_values[static_cast<int>(range.type)][i];
  if (range.absmax.codes != nullptr) tables.nested_map[i] = range.absmax.nested_map[i];
  __syncthreads();
}

__device__ float scale_at(const Range& range, const Tables& tables, std::int64_t element) {
  const std::int64_t block = range.first_block + (element >> range.block_shift);
  return scale_of_block(range.absmax, block, tables.nested_map);
}

// Consecutive threads store consecutive units of 16 bytes; each thread has its loads of codes
// under way before it decodes the first.
template <class T>
__global__ void dequantize_kernel(Range range, T* out) {
  __shared__ Tables tables;
  fill(range, tables);
  const auto* words = reinterpret_cast<const CodeWord<T>*>(range.packed);
  const std::int64_t units = range.count / kUnit<T>;
  const std::int64_t first = std::int64_t{blockIdx.x} * (kThreads * kUnitsPerThread) + threadIdx.x;

  CodeWord<T> loaded[kUnitsPerThread];
#pragma unroll
  for (int k = 0; k < kUnitsPerThread; ++k) {
    const std::int64_t unit = first + k * kThreads;
    loaded[k] = unit < units ? words[unit] : CodeWord<T>{0};
  }
#pragma unroll
  for (int k = 0; k < kUnitsPerThread; ++k) {
    const std::int64_t unit = first + k * kThreads;
    if (unit >= units) break;
    const float scale = scale_at(range, tables, unit * kUnit<T>);
    float values[kUnit<T>];
#pragma unroll
    for (int i = 0; i < kUnit<T>; ++i) {
      // Little-endian bytes, the even element in the high nibble.
      const int first_bit = i / 2 * 8 + (i % 2 == 0 ? 4 : 0);
      values[i] = tables.codes[loaded[k] >> first_bit & 15] * scale;
    }
    store16(values, out + unit * kUnit<T>);
  }

  const std::int64_t i = units * kUnit<T> + threadIdx.x;
  if (blockIdx.x == 0 && i < range.count) {
    const int byte = range.packed[i / 2];
    const int code = i % 2 == 0 ? byte >> 4 : byte & 15;
    out[i] = from_float<T>(tables.codes[code] * scale_at(range, tables, i));
  }
}

__global__ void absmax_kernel(Absmax absmax, std::int64_t blocks, float* out) {
  const std::int64_t b = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (b < blocks) out[b] = scale_of_block(absmax, b, absmax.nested_map);
}

static_assert(kThreads == 256, "fill() gives each thread one entry of the nested map");

}  // namespace

void dequantize_4bit(QuantType type, const std::uint8_t* packed, const Absmax& absmax,
                     std::int64_t begin, std::int64_t end, std::int64_t block, void* out,
                     DType out_dtype, Stream stream) {
  check_range(begin, end, block);
  if (begin == end) return;
  check_alignment(packed, 4);
  check_alignment(out, 16);
  const Range range{.type = type,
                    .packed = packed + begin / 2,
                    .absmax = absmax,
                    .first_block = begin / block,
                    .block_shift = std::countr_zero(static_cast<std::uint64_t>(block)),
                    .count = end - begin};
  with_element(out_dtype, "dequantize_4bit", [&](auto element) {
    using T = decltype(element);
    const unsigned grid = grid_for(range.count, kThreads * kUnitsPerThread * kUnit<T>);
    dequantize_kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(range, static_cast<T*>(out));
  });
  check_launch("dequantize_4bit");
}

void dequantize_absmax(const Absmax& absmax, std::int64_t blocks, float* out, Stream stream) {
  if (blocks == 0) return;
  absmax_kernel<<<grid_for(blocks, kThreads), kThreads, 0, as_cuda(stream)>>>(absmax, blocks, out);
  check_launch("dequantize_absmax");
}

}  // namespace qlora::kernels::cuda
