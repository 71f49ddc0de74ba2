#include "kernels/attention_batch.h"

#include "qlora/base/error.h"
#include "qlora/base/random.h"

#include <cmath>
#include <numeric>

namespace qlora::kernels::test {
namespace {

constexpr std::byte kUnwritten{0xff};  // NaN in both element types

// Rows [first, last) of one document and query head `h`.
void attend(const AttentionShape& shape, std::int64_t first, std::int64_t last, std::int64_t h,
            AttentionValues& x) {
  const std::int64_t dim = shape.head_dim;
  const std::int64_t key_head = h / (shape.query_heads / shape.key_heads);
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  const auto query = [&](std::int64_t t) { return (t * shape.query_heads + h) * dim; };
  const auto key = [&](std::int64_t t) { return (t * shape.key_heads + key_head) * dim; };
  const auto dot = [&](const std::vector<double>& a, std::int64_t i, const std::vector<double>& b,
                       std::int64_t j) {
    return std::inner_product(a.begin() + i, a.begin() + i + dim, b.begin() + j, 0.0);
  };
  const auto add = [&](std::vector<double>& to, std::int64_t i, double factor,
                       const std::vector<double>& from, std::int64_t j) {
    for (std::int64_t d = 0; d < dim; ++d) to[i + d] += factor * from[j + d];
  };
  for (std::int64_t t = first; t < last; ++t) {
    std::vector<double> p;
    double sum = 0;
    for (std::int64_t s = first; s <= t; ++s) {
      p.push_back(std::exp(scale * dot(x.q, query(t), x.k, key(s))));
      sum += p.back();
    }
    for (std::int64_t s = first; s <= t; ++s) {
      p[s - first] /= sum;
      add(x.o, query(t), p[s - first], x.v, key(s));
    }
    const double mean = dot(x.d_o, query(t), x.o, query(t));
    for (std::int64_t s = first; s <= t; ++s) {
      const double d_score = p[s - first] * (dot(x.d_o, query(t), x.v, key(s)) - mean) * scale;
      add(x.d_q, query(t), d_score, x.k, key(s));
      add(x.d_k, key(s), d_score, x.q, query(t));
      add(x.d_v, key(s), p[s - first], x.d_o, query(t));
    }
  }
}

// `values` rounded to the element type, in rows of `stride` elements from column `column` on.
void scatter(const std::vector<double>& values, DType dtype, std::int64_t width,
             std::int64_t stride, std::int64_t column, std::vector<std::byte>& buffer) {
  const std::vector<float> floats(values.begin(), values.end());
  const auto bytes = to_bytes(floats, dtype);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t place = (i / width) * stride + column + i % width;
    std::memcpy(buffer.data() + 2 * place, bytes.data() + 2 * i, 2);
  }
}

std::vector<std::byte> unwritten(std::int64_t elements) {
  return std::vector<std::byte>(static_cast<std::size_t>(2 * elements), kUnwritten);
}

// The first `used` uniform in [-1, 1), rounded to the element type; the rest NaN, which must not
// matter.
std::vector<double> random_values(std::uint64_t seed, std::int64_t n, std::int64_t used,
                                  DType dtype) {
  const RandomStream stream(seed, "attention");
  std::vector<double> values(static_cast<std::size_t>(n), NAN);
  for (std::int64_t i = 0; i < used; ++i) values[i] = rounded(2 * stream.uniform(i) - 1, dtype);
  return values;
}

// The probabilities, the scores' gradients and the results are rounded to the element type: each
// by at most 2^-9 (bfloat16) or 2^-12 (float16) of the largest value, in sums of random signs.
double tolerance(DType dtype) { return dtype == DType::BFloat16 ? 0.02 : 0.0025; }

// Compares `rows` rows of an output with the reference; all else must be unwritten.
void expect_near(const std::vector<std::byte>& bytes, const std::vector<double>& expected,
                 DType dtype, std::int64_t rows, std::int64_t width, std::int64_t stride,
                 const std::string& where) {
  double largest = 0, worst = 0;
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const double got = element(bytes.data(), dtype, i / width * stride + i % width);
    largest = std::max(largest, std::abs(expected[i]));
    worst = std::isfinite(got) ? std::max(worst, std::abs(got - expected[i])) : INFINITY;
    if (std::isinf(worst)) break;
  }
  EXPECT_LE(worst, tolerance(dtype) * largest) << where;
  std::int64_t written = 0;
  for (std::size_t i = 0; i < bytes.size() / 2; ++i) {
    const bool is_owned = static_cast<std::int64_t>(i) / stride < rows &&
                          static_cast<std::int64_t>(i) % stride < width;
    if (!is_owned && (bytes[2 * i] != kUnwritten || bytes[2 * i + 1] != kUnwritten)) ++written;
  }
  EXPECT_EQ(written, 0) << where << ": elements that no document owns";
}

}  // namespace

void reference_attention(const AttentionShape& shape, const std::vector<std::int32_t>& starts,
                         AttentionValues& values) {
  values.o.assign(values.q.size(), 0);
  values.d_q.assign(values.q.size(), 0);
  values.d_k.assign(values.k.size(), 0);
  values.d_v.assign(values.v.size(), 0);
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    for (std::int64_t h = 0; h < shape.query_heads; ++h) {
      attend(shape, starts[i], starts[i + 1], h, values);
    }
  }
}

std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> starts = {0};
  for (const std::int32_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

AttentionStrides strides_of(const AttentionShape& shape, std::int64_t padding) {
  const std::int64_t query = shape.query_heads * shape.head_dim;
  const std::int64_t key = shape.key_heads * shape.head_dim;
  const std::int64_t packed = query + 2 * key + padding;
  return {.q = packed,
          .k = packed,
          .v = packed,
          .o = query + padding,
          .d_o = query + 2 * padding,
          .d_q = query + 3 * padding,
          .d_k = key + padding,
          .d_v = key + 2 * padding};
}

const std::vector<AttentionCase> kAttentionCases = {
    {.query_heads = 4, .key_heads = 4, .head_dim = 64, .padding = 8},
    {.query_heads = 8, .key_heads = 2, .head_dim = 80},
    {.query_heads = 8, .key_heads = 2, .head_dim = 80, .padding = 16, .lengths = {130, 0, 2, 64}},
    {.dtype = DType::Float16, .query_heads = 4, .key_heads = 1, .head_dim = 128},
    {.query_heads = 6, .key_heads = 3, .head_dim = 128, .padding = 64, .lengths = {260}},
};

AttentionShape shape_of(const AttentionCase& c) {
  AttentionShape shape{.dtype = c.dtype,
                       .query_heads = c.query_heads,
                       .key_heads = c.key_heads,
                       .head_dim = c.head_dim,
                       .slots = static_cast<std::int64_t>(c.lengths.size()),
                       .longest = *std::max_element(c.lengths.begin(), c.lengths.end()) + 3,
                       .tokens = starts_of(c.lengths).back() + 27};
  shape.strides = strides_of(shape, c.padding);
  return shape;
}

std::string name_of_case(const AttentionCase& c) {
  return fmt::format("{} {}/{} heads of {}, padding {}, {} slots", name_of(c.dtype), c.query_heads,
                     c.key_heads, c.head_dim, c.padding, c.lengths.size());
}

struct AttentionBatch::Memory {
  OnDevice qkv, o, stats, d_o, d_q, d_k, d_v, starts, lengths, offsets;
  std::unique_ptr<OnDevice> workspace;
};

AttentionBatch::AttentionBatch(const AttentionShape& shape,
                               const std::vector<std::int32_t>& lengths)
    : shape_(shape), starts_(starts_of(lengths)) {
  const std::int64_t t = shape.tokens, query = shape.query_heads * shape.head_dim;
  const std::int64_t key = shape.key_heads * shape.head_dim;
  const auto values = [&](std::uint64_t seed, std::int64_t width) {
    return random_values(seed, t * width, starts_.back() * width, shape.dtype);
  };
  values_.q = values(1, query);
  values_.k = values(2, key);
  values_.v = values(3, key);
  values_.d_o = values(4, query);
  const AttentionStrides& s = shape.strides;
  std::vector<std::byte> qkv = unwritten(t * s.q), d_o = unwritten(t * s.d_o);
  scatter(values_.q, shape.dtype, query, s.q, 0, qkv);
  scatter(values_.k, shape.dtype, key, s.k, query, qkv);
  scatter(values_.v, shape.dtype, key, s.v, query + key, qkv);
  scatter(values_.d_o, shape.dtype, query, s.d_o, 0, d_o);
  const auto slots = static_cast<std::size_t>(shape.slots);
  memory_.reset(new Memory{
      OnDevice(qkv), OnDevice(unwritten(t * s.o)),
      OnDevice(std::vector<float>(static_cast<std::size_t>(t * shape.query_heads), NAN)),
      OnDevice(d_o), OnDevice(unwritten(t * s.d_q)), OnDevice(unwritten(t * s.d_k)),
      OnDevice(unwritten(t * s.d_v)), OnDevice(starts_), OnDevice(std::vector<std::int32_t>(slots)),
      OnDevice(std::vector<std::int64_t>(kDocumentOffsets * (slots + 1))), nullptr});
}

AttentionBatch::~AttentionBatch() = default;

void AttentionBatch::set_lengths(const std::vector<std::int32_t>& lengths) {
  starts_ = starts_of(lengths);
  QLORA_CUDA(cudaMemcpy(memory_->starts.data(), starts_.data(), starts_.size() * 4,
                        cudaMemcpyHostToDevice));
}

void AttentionBatch::run(PackedAttention& attention, Stream stream) {
  Memory& m = *memory_;
  if (!m.workspace) {
    const auto bytes = static_cast<std::size_t>(attention.workspace_bytes());
    m.workspace = std::make_unique<OnDevice>(std::vector<std::byte>(bytes));
  }
  const std::int64_t query = shape_.query_heads * shape_.head_dim;
  const std::int64_t key = shape_.key_heads * shape_.head_dim;
  auto* qkv = m.qkv.data<std::uint16_t>();
  const AttentionTensors tensors{.q = qkv,
                                 .k = qkv + query,
                                 .v = qkv + query + key,
                                 .o = m.o.data(),
                                 .stats = m.stats.data<float>(),
                                 .d_o = m.d_o.data(),
                                 .d_q = m.d_q.data(),
                                 .d_k = m.d_k.data(),
                                 .d_v = m.d_v.data()};
  const Documents documents{m.starts.data<std::int32_t>(), m.lengths.data<std::int32_t>(),
                            m.offsets.data<std::int64_t>()};
  cuda::index_documents(shape_, documents, stream);
  attention.forward(tensors, documents, m.workspace->data(), stream);
  attention.backward(tensors, documents, m.workspace->data(), stream);
}

void AttentionBatch::expect_reference(const std::string& where) const {
  AttentionValues expected = values_;
  reference_attention(shape_, starts_, expected);
  const std::int64_t rows = starts_.back(), query = shape_.query_heads * shape_.head_dim;
  const std::int64_t key = shape_.key_heads * shape_.head_dim;
  const AttentionStrides& s = shape_.strides;
  const auto got = outputs();
  expect_near(got[0], expected.o, shape_.dtype, rows, query, s.o, where + ": o");
  expect_near(got[1], expected.d_q, shape_.dtype, rows, query, s.d_q, where + ": d_q");
  expect_near(got[2], expected.d_k, shape_.dtype, rows, key, s.d_k, where + ": d_k");
  expect_near(got[3], expected.d_v, shape_.dtype, rows, key, s.d_v, where + ": d_v");
  for (const OnDevice* memory : {&memory_->stats, memory_->workspace.get()}) memory->download();
}

std::vector<std::vector<std::byte>> AttentionBatch::outputs() const {
  return {memory_->o.download(), memory_->d_q.download(), memory_->d_k.download(),
          memory_->d_v.download()};
}

void expect_all_cases(MakeAttention make) {
  for (const AttentionCase& c : kAttentionCases) {
    const AttentionShape shape = shape_of(c);
    const auto attention = make(shape);
    AttentionBatch batch(shape, c.lengths);
    batch.run(*attention, nullptr);
    batch.expect_reference(name_of_case(c));
  }
}

void expect_any_packing(MakeAttention make) {
  const AttentionCase c{.query_heads = 4, .key_heads = 2, .head_dim = 80};
  const AttentionShape shape = shape_of(c);
  const auto attention = make(shape);
  for (const std::vector<std::int32_t>& lengths :
       {std::vector<std::int32_t>{0, 0, 0, 0, 0, 0, 5}, {37, 37, 37, 37, 37, 37, 38}, c.lengths}) {
    AttentionBatch batch(shape, lengths);
    batch.run(*attention, nullptr);
    batch.expect_reference(fmt::format("lengths {}", fmt::join(lengths, ",")));
  }
}

}  // namespace qlora::kernels::test
