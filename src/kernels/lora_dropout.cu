// No operand passes through shared memory on its way to the tensor cores. A product's rows, columns
// and inner index may be numbered in any order that its operands agree on, so they are numbered
// such that what a lane holds (mma.cuh) are neighbours in memory: eight features of one token,
// which are 16 bytes and one Philox call.

#include "qlora/kernels/lora_dropout.h"

#include "launch.cuh"
#include "lora_dropout_rules.h"
#include "mma.cuh"
#include "rows.h"

#include <algorithm>
#include <type_traits>

namespace qlora::kernels::cuda {
namespace {

constexpr int kTile = kRankUnit;  // ranks, or tokens, of one product

struct Part {
  int first_rank;
  int rank;
  DropoutRule rule;
};

// A LoraDropout and its tokens as the kernels see them.
struct Lora {
  Part parts[kMaxParts];
  int count;
  int features;
  int in;
  int extra;
  int rows;
  ConstRows a;
  const std::int64_t* samples;
  const std::int32_t* positions;
};

// Where a thread stands in the layouts of mma.cuh.
struct Lane {
  int warp = static_cast<int>(threadIdx.x) / kWarp;
  int g = static_cast<int>(threadIdx.x) % kWarp / 4;
  int q = static_cast<int>(threadIdx.x) % 4;
};

struct Token {
  int row;
  bool exists;
  std::int64_t sample;
  std::uint32_t position;
};

__device__ Token token_at(const Lora& lora, int row) {
  if (row >= lora.rows) return {row, false, 0, 0};
  return {row, true, lora.samples[row], static_cast<std::uint32_t>(lora.positions[row])};
}

template <class T>
__device__ Octet load_octet(ConstRows x, int row, int column, bool exists) {
  if (!exists) return {};
  const uint4 raw = *reinterpret_cast<const uint4*>(row_of<T>(x, row) + column);
  return {{raw.x, raw.y, raw.z, raw.w}};
}

__device__ void drop_octet(float (&values)[kOctet], const Token& token, int column,
                           const DropoutRule& rule) {
  const Philox4 random = row_words(column / kOctet, token.sample, token.position, rule.key);
#pragma unroll
  for (int h = 0; h < kOctet; ++h) values[h] = drop(values[h], random, h, rule);
}

// Whether x [tokens, in] has elements there.
__device__ bool inside(const Lora& lora, const Token& token, int column) {
  return token.exists && column < lora.in;
}

template <class T>
__device__ Octet dropped(const Octet& x, const Token& token, int column, const DropoutRule& rule) {
  float values[kOctet];
  unpack16<T>({x.words[0], x.words[1], x.words[2], x.words[3]}, values);
  drop_octet(values, token, column, rule);
  Octet result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    result.words[i] = pack_pair(values[2 * i], values[2 * i + 1], T{});
  }
  return result;
}

// Up to kTiles tiles of a part's ranks: what one block sums, with the part's mask computed once.
struct Slice {
  int part;
  int first_rank;
  int tiles;
};

QLORA_HOST_DEVICE int tiles_of(const Part& part) { return (part.rank + kTile - 1) / kTile; }
QLORA_HOST_DEVICE int slices_of(const Part& part, int tiles) {
  return (tiles_of(part) + tiles - 1) / tiles;
}

template <int kTiles>
__device__ Slice slice_at(const Lora& lora, int index) {
  for (int p = 0; p < lora.count; ++p) {
    const Part& part = lora.parts[p];
    const int slices = slices_of(part, kTiles);
    if (index < slices) {
      return {p, part.first_rank + index * kTiles * kTile,
              min(kTiles, tiles_of(part) - index * kTiles)};
    }
    index -= slices;
  }
  return {};
}

// reduce: out [16 tokens, ranks] = drop(x) · Aᵀ. A block takes 16 tokens and a slice; its warps
// take 32 columns in turn, a lane eight of them: the inner indices of two products.
constexpr int kReduceWarps = 16;
constexpr int kReduceColumns = 32;
constexpr int kReducePitch = kTile + 8;  // of the sums in shared memory, against bank conflicts

// Zeros where no part is.
template <class T>
__device__ void clear_gaps(const Lora& lora, int first_row, Rows out) {
  const int tiles = lora.extra / kTile;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * tiles; i += kReduceWarps * kWarp) {
    const int row = first_row + i / tiles;
    const int rank = i % tiles * kTile;
    bool taken = row >= lora.rows;
    for (int p = 0; p < lora.count; ++p) {
      const int before = rank - lora.parts[p].first_rank;
      taken = taken || (before >= 0 && before < lora.parts[p].rank);
    }
    if (taken) continue;
    const float zeros[kOctet] = {};
    store16(zeros, row_of<T>(out, row) + rank);
    store16(zeros, row_of<T>(out, row) + rank + kOctet);
  }
}

template <class T, int kTiles>
__global__ void __launch_bounds__(kReduceWarps* kWarp)
    reduce_kernel(const __grid_constant__ Lora lora, ConstRows x, Rows out) {
  __shared__ float shared[kReduceWarps][kTile][kReducePitch];
  const Lane lane;
  const Slice slice = slice_at<kTiles>(lora, static_cast<int>(blockIdx.y));
  const DropoutRule rule = lora.parts[slice.part].rule;
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const Token tokens[2] = {token_at(lora, first_row + lane.g),
                           token_at(lora, first_row + lane.g + 8)};
  float sums[kTiles][2][4] = {};
#pragma unroll 2
  for (int first = lane.warp * kReduceColumns; first < lora.in;
       first += kReduceWarps * kReduceColumns) {
    const int column = first + kOctet * lane.q;
    Octet low = load_octet<T>(x, tokens[0].row, column, inside(lora, tokens[0], column));
    Octet high = load_octet<T>(x, tokens[1].row, column, inside(lora, tokens[1], column));
    low = dropped<T>(low, tokens[0], column, rule);
    high = dropped<T>(high, tokens[1], column, rule);
#pragma unroll
    for (int k = 0; k < 2 * kTiles; ++k) {
      if (k / 2 >= slice.tiles) break;
      const int rank = slice.first_rank + 8 * k + lane.g;
      const Octet a = load_octet<T>(lora.a, rank, column, column < lora.in);
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        multiply_add({low.words[i], high.words[i], low.words[i + 1], high.words[i + 1]},
                     {a.words[i], a.words[i + 1]}, sums[k / 2][k % 2], T{});
      }
    }
  }
  if (blockIdx.y == 0) clear_gaps<T>(lora, first_row, out);
  const int row = static_cast<int>(threadIdx.x) / kTile;
  const int rank = static_cast<int>(threadIdx.x) % kTile;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    if (tile >= slice.tiles) break;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      shared[lane.warp][lane.g + i / 2 % 2 * 8][i / 4 * 8 + 2 * lane.q + i % 2] =
          sums[tile][i / 4][i % 4];
    }
    __syncthreads();
    if (row >= kTile || first_row + row >= lora.rows) continue;
    float sum = 0;
    for (int warp = 0; warp < kReduceWarps; ++warp) sum += shared[warp][row][rank];
    row_of<T>(out, first_row + row)[slice.first_rank + tile * kTile + rank] = from_float<T>(sum);
  }
}

// expand: dxᵀ [64 columns, 16 tokens] = Aᵀ · gᵀ per warp, so that a lane holds eight columns of
// four tokens. Inner indices 2q, 2q + 1, 2q + 8, 2q + 9 are the ranks 4q ... 4q + 3.
constexpr int kExpandWarps = 4;
constexpr int kColumns = 64;

template <class T>
__global__ void __launch_bounds__(kExpandWarps* kWarp)
    expand_kernel(const __grid_constant__ Lora lora, ConstRows g, Rows dx) {
  const Lane lane;
  const int column = static_cast<int>(blockIdx.x) * kColumns + kOctet * lane.g;
  const int first_row = (static_cast<int>(blockIdx.y) * kExpandWarps + lane.warp) * kTile;
  float total[4][kOctet] = {};  // of tokens first_row + 2q, + 1, + 8, + 9
  for (int p = 0; p < lora.count; ++p) {
    const Part& part = lora.parts[p];
    float sums[2][4][4] = {};
    for (int r = 0; r < part.rank; r += kTile) {
      const int rank = part.first_rank + r + 4 * lane.q;
      Octet rows[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        rows[i] = load_octet<T>(lora.a, rank + i, column, column < lora.in);
      }
      std::uint32_t a[4][4];
      transpose(rows, a);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row + 8 * half + lane.g;
        uint2 b{};
        if (row < lora.rows) b = *reinterpret_cast<const uint2*>(row_of<T>(g, row) + rank);
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply_add(a[j], {b.x, b.y}, sums[half][j], T{});
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Token token = token_at(lora, first_row + i / 2 * 8 + 2 * lane.q + i % 2);
      float own[kOctet];
#pragma unroll
      for (int h = 0; h < kOctet; ++h) own[h] = sums[i / 2][h / 2][h % 2 * 2 + i % 2];
      drop_octet(own, token, column, part.rule);
#pragma unroll
      for (int h = 0; h < kOctet; ++h) total[i][h] += own[h];
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + i / 2 * 8 + 2 * lane.q + i % 2;
    if (row < lora.rows && column < lora.in) store16(total[i], row_of<T>(dx, row) + column);
  }
}

// accumulate_a: dAᵀ [64 columns, ranks] += drop(x)ᵀ · g. A block takes 64 columns and a slice; its
// warps take 16 tokens in turn, a lane eight columns of four: inner indices 2q, 2q + 1, 2q + 8,
// 2q + 9 are the tokens 4q ... 4q + 3, and column n of product `half` is rank 2n + half.
constexpr int kAccumulateWarps = 16;
constexpr int kAccumulatePitch = kColumns + 1;

template <class T, int kTiles>
__global__ void __launch_bounds__(kAccumulateWarps* kWarp)
    accumulate_a_kernel(const __grid_constant__ Lora lora, ConstRows g, ConstRows x,
                        float* grad_a) {
  __shared__ float shared[kAccumulateWarps][8][kAccumulatePitch];
  const Lane lane;
  const Slice slice = slice_at<kTiles>(lora, static_cast<int>(blockIdx.y));
  const Part part = lora.parts[slice.part];
  const int first_column = static_cast<int>(blockIdx.x) * kColumns;
  const int own_column = first_column + kOctet * lane.g;
  float sums[kTiles][2][4][4] = {};
  for (int first = lane.warp * kTile; first < lora.rows; first += kAccumulateWarps * kTile) {
    Token tokens[4];
    Octet rows[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      tokens[i] = token_at(lora, first + 4 * lane.q + i);
      rows[i] = load_octet<T>(x, tokens[i].row, own_column, inside(lora, tokens[i], own_column));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) rows[i] = dropped<T>(rows[i], tokens[i], own_column, part.rule);
    std::uint32_t a[4][4];
    transpose(rows, a);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile >= slice.tiles) break;
      const int rank = slice.first_rank + tile * kTile + 2 * lane.g;
      std::uint32_t pairs[4] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!tokens[i].exists) continue;
        pairs[i] = *reinterpret_cast<const std::uint32_t*>(row_of<T>(g, tokens[i].row) + rank);
      }
      const std::uint32_t b[2][2] = {
          {low_halves(pairs[0], pairs[1]), low_halves(pairs[2], pairs[3])},
          {high_halves(pairs[0], pairs[1]), high_halves(pairs[2], pairs[3])}};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        multiply_add(a[j], b[0], sums[tile][0][j], T{});
        multiply_add(a[j], b[1], sums[tile][1][j], T{});
      }
    }
  }
  static_assert(kAccumulateWarps * kWarp == 8 * kColumns);
  const int n = static_cast<int>(threadIdx.x) / kColumns;
  const int column = static_cast<int>(threadIdx.x) % kColumns;
#pragma unroll
  for (int k = 0; k < 2 * kTiles; ++k) {
    if (k / 2 >= slice.tiles) break;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      shared[lane.warp][2 * lane.q + i % 2][kOctet * lane.g + i / 2] =
          sums[k / 2][k % 2][i / 4][i % 4];
    }
    __syncthreads();
    const int rank = slice.first_rank + k / 2 * kTile + 2 * n + k % 2;
    if (rank - part.first_rank >= part.rank || first_column + column >= lora.features) continue;
    float sum = 0;
    for (int warp = 0; warp < kAccumulateWarps; ++warp) sum += shared[warp][n][column];
    grad_a[std::int64_t{rank} * lora.features + first_column + column] += sum;
  }
}

Lora make_lora(const LoraDropout& lora, DType dtype, std::int64_t rows,
               std::array<ConstRows, 2> matrices) {
  const auto rules = lora_dropout_rules(lora);
  check_tensor_core_rows(dtype, {lora.a, matrices[0], matrices[1]});
  Lora made{.count = static_cast<int>(lora.count),
            .features = static_cast<int>(lora.features),
            .in = static_cast<int>(lora.in),
            .extra = static_cast<int>(lora.extra),
            .rows = static_cast<int>(rows),
            .a = lora.a,
            .samples = lora.samples,
            .positions = lora.positions};
  for (std::size_t i = 0; i < lora.count; ++i) {
    made.parts[i] = {static_cast<int>(lora.parts[i].first_rank),
                     static_cast<int>(lora.parts[i].rank), rules[i]};
  }
  return made;
}

// Calls body(std::integral_constant<int, tiles of a slice>, slices): one tile where that is all
// that any part has, else kMost.
template <int kMost, class Body>
void with_slices(const Lora& lora, const Body& body) {
  const auto slices = [&](int tiles) {
    int sum = 0;
    for (int p = 0; p < lora.count; ++p) sum += slices_of(lora.parts[p], tiles);
    return static_cast<unsigned>(std::max(sum, 1));
  };
  const auto is_small = [](const Part& part) { return tiles_of(part) <= 1; };
  if (std::all_of(lora.parts, lora.parts + lora.count, is_small)) {
    body(std::integral_constant<int, 1>{}, slices(1));
  } else {
    body(std::integral_constant<int, kMost>{}, slices(kMost));
  }
}

// Calls body with a value of the element type, which is one of those that tensor cores take.
template <class Body>
void with_half(DType dtype, const Body& body) {
  dtype == DType::Float16 ? body(Float16{}) : body(BFloat16{});
}

}  // namespace

void lora_reduce(const LoraDropout& lora, ConstRows x, DType dtype, std::int64_t rows, Rows out,
                 Stream stream) {
  const Lora job = make_lora(lora, dtype, rows, {x, out});
  if (rows == 0) return;
  with_half(dtype, [&](auto element) {
    with_slices<4>(job, [&](auto tiles, unsigned slices) {
      const dim3 grid(grid_for(rows, kTile), slices);
      reduce_kernel<decltype(element), tiles>
          <<<grid, kReduceWarps * kWarp, 0, as_cuda(stream)>>>(job, x, out);
    });
  });
  check_launch("lora_reduce");
}

void lora_expand(const LoraDropout& lora, ConstRows g, DType dtype, std::int64_t rows, Rows dx,
                 Stream stream) {
  const Lora job = make_lora(lora, dtype, rows, {g, dx});
  if (rows == 0) return;
  with_half(dtype, [&](auto element) {
    const dim3 grid(grid_for(lora.in, kColumns), grid_for(rows, kExpandWarps * kTile));
    expand_kernel<decltype(element)>
        <<<grid, kExpandWarps * kWarp, 0, as_cuda(stream)>>>(job, g, dx);
  });
  check_launch("lora_expand");
}

void lora_accumulate_a(const LoraDropout& lora, ConstRows g, ConstRows x, DType dtype,
                       std::int64_t rows, float* grad_a, Stream stream) {
  const Lora job = make_lora(lora, dtype, rows, {g, x});
  if (rows == 0) return;
  with_half(dtype, [&](auto element) {
    with_slices<2>(job, [&](auto tiles, unsigned slices) {
      const dim3 grid(grid_for(lora.in, kColumns), slices);
      accumulate_a_kernel<decltype(element), tiles>
          <<<grid, kAccumulateWarps * kWarp, 0, as_cuda(stream)>>>(job, g, x, grad_a);
    });
  });
  check_launch("lora_accumulate_a");
}

}  // namespace qlora::kernels::cuda
