#include "qlora/kernels/augmented_weight.h"

#include "checks.h"
#include "decode_4bit.cuh"

#include <algorithm>
#include <bit>

namespace qlora::kernels::cuda {
namespace {

// Of eleven launches tried on an H200 the fastest for the groups of EXAONE-3.5-2.4B.
constexpr int kThreads = 256;
constexpr int kUnitsPerThread = 2;
constexpr int kBlocksPerProcessor = 16;

// n / divisor for n below 2^31 by one multiplication (Warren, Hacker's Delight, 10-9).
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(std::uint32_t divisor)
      : shift_(std::bit_width(divisor - 1)),
        multiplier_(static_cast<std::uint32_t>((std::uint64_t{1} << (31 + shift_)) / divisor + 1)) {
  }

  __device__ std::uint32_t divide(std::uint32_t n) const {
    return static_cast<std::uint32_t>(std::uint64_t{n} * multiplier_ >> (31 + shift_));
  }

 private:
  int shift_ = 0;
  std::uint32_t multiplier_ = 0;
};

// A group as the kernel sees it. The work comes in chunks of kThreads · kUnitsPerThread units:
// those of each part's weight, then those of the extra columns, then those of the extra rows.
template <class T>
struct Job {
  struct Part {
    FourBit source;
    const T* dense;
    std::uint32_t out;         // rows with values
    std::uint32_t padded_out;  // rows written
    std::uint32_t row;         // first row
    const T* a;
    const T* scaled_b;
    std::uint32_t rank;
    std::uint32_t first_rank;
    std::uint32_t end_chunk;
  };
  Part parts[kMaxParts];
  std::uint32_t count;
  std::uint32_t in, padded_in, extra, rows;
  Divisor units_per_row;
  std::uint32_t end_columns, end_chunk;
  T* out;

  __device__ T* at(std::uint32_t row, std::uint32_t column) const {
    return out + std::int64_t{row} * (padded_in + extra) + column;
  }
};

// Whole units: rows are full and start on one.
template <class T>
struct DecodeUnits {
  __device__ static void run(const Job<T>& job, const typename Job<T>::Part& part,
                             DecodeTables& tables, bool fresh, std::uint32_t chunk) {
    const std::uint32_t per_row = job.in / kUnit<T>;
    const std::uint32_t units = part.out * per_row;
    const std::uint32_t first = chunk * (kThreads * kUnitsPerThread) + threadIdx.x;
    CodedUnit<T> loaded[kUnitsPerThread];
#pragma unroll
    for (int k = 0; k < kUnitsPerThread; ++k) {
      const std::uint32_t unit = first + k * kThreads;
      if (unit < units) loaded[k] = load_unit<T>(part.source, unit);
    }
    if (fresh) fill(part.source, tables);
#pragma unroll
    for (int k = 0; k < kUnitsPerThread; ++k) {
      const std::uint32_t unit = first + k * kThreads;
      if (unit >= units) return;
      float values[kUnit<T>];
      decode<T>(part.source, loaded[k], tables, values);
      const std::uint32_t row = job.units_per_row.divide(unit);
      store16(values, job.at(part.row + row, (unit - row * per_row) * kUnit<T>));
    }
  }
};

// Any shape, and dense weights, one element at a time.
template <class T>
struct PlaceElements {
  __device__ static void run(const Job<T>& job, const typename Job<T>::Part& part,
                             DecodeTables& tables, bool fresh, std::uint32_t chunk) {
    constexpr std::uint32_t kPerChunk = kThreads * kUnitsPerThread * kUnit<T>;
    if (fresh && part.dense == nullptr) fill(part.source, tables);
    const std::uint32_t total = part.padded_out * job.padded_in;
    for (std::uint32_t k = threadIdx.x; k < kPerChunk; k += kThreads) {
      const std::uint32_t e = chunk * kPerChunk + k;
      if (e >= total) return;
      const std::uint32_t row = e / job.padded_in;
      const std::uint32_t column = e - row * job.padded_in;
      T value{};
      if (row < part.out && column < job.in) {
        const std::int64_t i = std::int64_t{row} * job.in + column;
        value = part.dense != nullptr ? part.dense[i]
                                      : from_float<T>(decode_element(part.source, tables, i));
      }
      *job.at(part.row + row, column) = value;
    }
  }
};

// The part whose rows hold `row`.
template <class T>
__device__ const typename Job<T>::Part& part_of_row(const Job<T>& job, std::uint32_t row) {
  std::uint32_t p = 0;
  while (p + 1 < job.count && row >= job.parts[p + 1].row) ++p;
  return job.parts[p];
}

// Calls value(row, column) for each element of `unit` of a [rows, columns] matrix, and stores them
// at target(row, first column).
template <class T, class Value, class Target>
__device__ void place_unit(std::uint32_t unit, std::uint32_t columns, const Value& value,
                           const Target& target) {
  const std::uint32_t per_row = columns / kUnit<T>;
  const std::uint32_t row = unit / per_row;
  const std::uint32_t column = (unit - row * per_row) * kUnit<T>;
  float values[kUnit<T>];
#pragma unroll
  for (int i = 0; i < kUnit<T>; ++i) values[i] = to_float(value(row, column + i));
  store16(values, target(row, column));
}

template <class T>
__device__ void place_columns(const Job<T>& job, std::uint32_t unit) {
  if (unit >= job.rows * (job.extra / kUnit<T>)) return;
  const auto value = [&](std::uint32_t row, std::uint32_t column) {
    const auto& part = part_of_row(job, row);
    const std::uint32_t r = column - part.first_rank;  // wraps where the column lies before
    const std::uint32_t out = row - part.row;
    return r < part.rank && out < part.out ? part.scaled_b[out * part.rank + r] : T{};
  };
  place_unit<T>(unit, job.extra, value, [&](std::uint32_t row, std::uint32_t column) {
    return job.at(row, job.padded_in + column);
  });
}

template <class T>
__device__ void place_rows(const Job<T>& job, std::uint32_t unit) {
  if (unit >= job.extra * (job.padded_in / kUnit<T>)) return;
  const auto value = [&](std::uint32_t row, std::uint32_t column) {
    for (std::uint32_t p = 0; p < job.count; ++p) {
      const std::uint32_t r = row - job.parts[p].first_rank;
      if (r < job.parts[p].rank && column < job.in) return job.parts[p].a[r * job.in + column];
    }
    return T{};
  };
  place_unit<T>(unit, job.padded_in, value, [&](std::uint32_t row, std::uint32_t column) {
    return job.at(job.rows + row, column);
  });
}

template <class T, template <class> class Weights>
__global__ void __launch_bounds__(kThreads) augment_kernel(const __grid_constant__ Job<T> job) {
  __shared__ DecodeTables tables;
  std::uint32_t in_tables = kMaxParts;  // the part whose tables are at hand
  for (std::uint32_t chunk = blockIdx.x; chunk < job.end_chunk; chunk += gridDim.x) {
    std::uint32_t p = 0, before = 0;
    while (p < job.count && chunk >= job.parts[p].end_chunk) before = job.parts[p++].end_chunk;
    if (p < job.count) {
      if (in_tables != p) __syncthreads();  // all are done with the tables before
      Weights<T>::run(job, job.parts[p], tables, in_tables != p, chunk - before);
      in_tables = p;
      continue;
    }
    const bool columns = chunk < job.end_columns;
    const std::uint32_t local = chunk - (columns ? before : job.end_columns);
    for (int k = 0; k < kUnitsPerThread; ++k) {
      const std::uint32_t unit = (local * kUnitsPerThread + k) * kThreads + threadIdx.x;
      columns ? place_columns(job, unit) : place_rows(job, unit);
    }
  }
}

// Rows and columns have no padding.
bool fits_units(const AugmentedGroup& group) {
  bool fits = group.in % kAugmentedUnit == 0;
  for (std::size_t i = 0; i < group.count; ++i) {
    const AugmentedPart& part = group.parts[i];
    fits = fits && part.dense == nullptr && part.out % kAugmentedUnit == 0;
  }
  return fits;
}

std::uint32_t to_u32(std::int64_t value) { return static_cast<std::uint32_t>(value); }

template <class T>
Job<T> make_job(const AugmentedGroup& group, T* out, bool units) {
  const auto chunks = [](std::int64_t elements) {
    return grid_for(elements, kThreads * kUnitsPerThread * kUnit<T>);
  };
  Job<T> job{.count = to_u32(static_cast<std::int64_t>(group.count)),
             .in = to_u32(group.in),
             .padded_in = to_u32(group.padded_in()),
             .extra = to_u32(group.extra()),
             .rows = to_u32(group.padded_out()),
             .units_per_row = Divisor(std::max(1u, to_u32(group.in / kUnit<T>))),
             .out = out};
  std::uint32_t end = 0;
  for (std::size_t i = 0; i < group.count; ++i) {
    const AugmentedPart& part = group.parts[i];
    const std::int64_t padded_out = group.row_of(i + 1) - group.row_of(i);
    end += chunks(units ? part.out * group.in : padded_out * group.padded_in());
    job.parts[i] = {.source = make_four_bit(part.type, part.packed, part.absmax, 0, part.block),
                    .dense = static_cast<const T*>(part.dense),
                    .out = to_u32(part.out),
                    .padded_out = to_u32(padded_out),
                    .row = to_u32(group.row_of(i)),
                    .a = static_cast<const T*>(part.a),
                    .scaled_b = static_cast<const T*>(part.scaled_b),
                    .rank = to_u32(part.rank),
                    .first_rank = to_u32(group.rank_before(i)),
                    .end_chunk = end};
  }
  job.end_columns = end + chunks(group.padded_out() * group.extra());
  job.end_chunk = job.end_columns + chunks(group.extra() * group.padded_in());
  return job;
}

unsigned processors() {
  int device = 0, count = 0;
  QLORA_CUDA(cudaGetDevice(&device));
  QLORA_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return static_cast<unsigned>(count);
}

}  // namespace

void augment_weight(const AugmentedGroup& group, void* out, DType dtype, Stream stream) {
  check_alignment(out, 16);
  with_element(dtype, "augment_weight", [&](auto element) {
    using T = decltype(element);
    const bool units = fits_units(group);
    const Job<T> job = make_job(group, static_cast<T*>(out), units);
    const unsigned grid = std::min(job.end_chunk, processors() * kBlocksPerProcessor);
    const auto kernel = units ? &augment_kernel<T, DecodeUnits> : &augment_kernel<T, PlaceElements>;
    kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(job);
  });
  check_launch("augment_weight");
}

}  // namespace qlora::kernels::cuda
