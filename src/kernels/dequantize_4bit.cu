#include "qlora/kernels/dequantize_4bit.h"

#include "checks.h"
#include "decode_4bit.cuh"

namespace qlora::kernels::cuda {
namespace {

// Of seven launches tried on an H200 the fastest.
constexpr int kThreads = 512;
constexpr int kUnitsPerThread = 2;
// So that units and blocks are counted in 32 bits.
constexpr std::int64_t kMostElements = std::int64_t{1} << 33;

// Consecutive threads store consecutive units; each thread has its loads under way before it
// decodes the first.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(FourBit source, std::uint32_t units, unsigned rest, T* out) {
  __shared__ DecodeTables tables;
  const std::uint32_t first = blockIdx.x * (kThreads * kUnitsPerThread) + threadIdx.x;
  CodedUnit<T> loaded[kUnitsPerThread];
#pragma unroll
  for (int k = 0; k < kUnitsPerThread; ++k) {
    const std::uint32_t unit = first + k * kThreads;
    if (unit < units) loaded[k] = load_unit<T>(source, unit);
  }
  fill(source, tables);
#pragma unroll
  for (int k = 0; k < kUnitsPerThread; ++k) {
    const std::uint32_t unit = first + k * kThreads;
    if (unit >= units) break;
    float values[kUnit<T>];
    decode<T>(source, loaded[k], tables, values);
    store16(values, out + std::int64_t{unit} * kUnit<T>);
  }
  if (blockIdx.x == 0 && threadIdx.x < rest) {
    const std::int64_t i = std::int64_t{units} * kUnit<T> + threadIdx.x;
    out[i] = from_float<T>(decode_element(source, tables, i));
  }
}

__global__ void absmax_kernel(Absmax absmax, std::int64_t blocks, float* out) {
  const std::int64_t b = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (b < blocks) out[b] = scale_of_block(absmax, b, absmax.nested_map);
}

}  // namespace

void dequantize_4bit(QuantType type, const std::uint8_t* packed, const Absmax& absmax,
                     std::int64_t begin, std::int64_t end, std::int64_t block, void* out,
                     DType out_dtype, Stream stream) {
  check_range(begin, end, block);
  check_count(end, kMostElements);
  if (begin == end) return;
  check_alignment(packed, 4);
  check_alignment(out, 16);
  const FourBit source = make_four_bit(type, packed, absmax, begin, block);
  with_element(out_dtype, "dequantize_4bit", [&](auto element) {
    using T = decltype(element);
    const std::int64_t count = end - begin;
    const unsigned grid = grid_for(count, kThreads * kUnitsPerThread * kUnit<T>);
    dequantize_kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(
        source, static_cast<std::uint32_t>(count / kUnit<T>),
        static_cast<unsigned>(count % kUnit<T>), static_cast<T*>(out));
  });
  check_launch("dequantize_4bit");
}

void dequantize_absmax(const Absmax& absmax, std::int64_t blocks, float* out, Stream stream) {
  if (blocks == 0) return;
  absmax_kernel<<<grid_for(blocks, kThreads), kThreads, 0, as_cuda(stream)>>>(absmax, blocks, out);
  check_launch("dequantize_absmax");
}

}  // namespace qlora::kernels::cuda
