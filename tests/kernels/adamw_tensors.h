#pragma once
// Tables of tensors in host memory for the tests of the optimizer's kernels.

#include "kernels/support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/adamw.h"

namespace qlora::kernels::test {

// A table over tensors that lie elsewhere.
class HostTable {
 public:
  explicit HostTable(std::vector<AdamWTensor> tensors)
      : tensors_(std::move(tensors)), owners_(number_chunks(tensors_)) {}

  AdamWTable view() const {
    return {.tensors = tensors_.data(),
            .owners = owners_.data(),
            .tensor_count = static_cast<std::int64_t>(tensors_.size()),
            .chunk_count = static_cast<std::int64_t>(owners_.size())};
  }

 private:
  std::vector<AdamWTensor> tensors_;
  std::vector<std::int32_t> owners_;
};

inline GradientNorm norm_of(const HostTable& table, const ClipOptions& options) {
  std::vector<std::byte> workspace(gradient_norm_workspace(table.view()));
  GradientNorm result;
  cpu::gradient_norm(table.view(), options, workspace.data(), &result, nullptr);
  return result;
}

// One update of one tensor by the CPU twin, the gradient multiplied by `factor`.
inline void update(const AdamWTensor& tensor, const AdamWStep& step, float factor = 1) {
  const GradientNorm norm{.factor = factor};
  cpu::adamw(HostTable({tensor}).view(), step, &norm, nullptr);
}

// What one tensor of a test's table is like. A copy has `columns` elements a row, if not 0.
struct TensorCase {
  std::int64_t n;
  DType dtype = DType::Float32;
  DType grad_dtype = DType::Float32;
  bool eight_bit = true;
  bool decay = true;
  std::int64_t copy_columns = 0;
  std::int64_t copy_pitch = 0;
  DType copy_dtype = DType::BFloat16;
};

// Every size around a block and a chunk by every pair of types and either kind of state. What else
// may differ goes round while the size changes: with decay and without, copies of every type and
// shape (none, in whole fours, with a pitch, with rows that no vector fits).
inline std::vector<TensorCase> many_cases() {
  using enum DType;
  constexpr std::int64_t kSizes[] = {1, 255, 256, 257, 4095, 4096, 16384, 16385, 20001};
  std::vector<TensorCase> cases;
  std::int64_t kind = 0;  // of types and state
  for (const DType dtype : kFloatTypes) {
    for (const DType grad_dtype : {Float32, dtype}) {
      for (const bool eight_bit : {false, true}) {
        for (std::int64_t size = 0; size < std::ssize(kSizes); ++size) {
          const std::int64_t i = kind + size;
          TensorCase one{kSizes[size], dtype, grad_dtype, eight_bit, (kind + size / 4) % 2 == 0};
          if (i % 4 == 1) one.copy_columns = one.copy_pitch = 16;
          if (i % 4 == 2) one.copy_columns = 64, one.copy_pitch = 80;
          if (i % 4 == 3) one.copy_columns = 7, one.copy_pitch = 9;
          one.copy_dtype = kFloatTypes[i % 3];
          cases.push_back(one);
        }
        ++kind;
      }
    }
  }
  return cases;
}

// The memory of one tensor.
struct TensorBytes {
  std::vector<std::byte> param, grad, m, v, m_absmax, v_absmax, copy;

  TensorBytes(const TensorCase& c, std::uint64_t seed) {
    const auto bytes = [](std::int64_t count, std::size_t size) {
      return std::vector<std::byte>(static_cast<std::size_t>(count) * size);
    };
    param = to_bytes(random_floats(seed, c.n, 0.1f), c.dtype);
    grad = bytes(c.n, size_of(c.grad_dtype));
    m = v = bytes(c.n, c.eight_bit ? 1 : 4);
    if (c.eight_bit) m_absmax = v_absmax = bytes(div_up(c.n, kAdamWBlock), 4);
    if (c.copy_columns != 0) {
      copy = bytes(div_up(c.n, c.copy_columns) * c.copy_pitch, size_of(c.copy_dtype));
    }
  }

  // at(bytes) gives the address of a member, wherever it lies.
  template <class At>
  AdamWTensor tensor(const TensorCase& c, const At& at) {
    return {.param = at(param),
            .grad = at(grad),
            .m = at(m),
            .v = at(v),
            .m_absmax = c.eight_bit ? static_cast<float*>(at(m_absmax)) : nullptr,
            .v_absmax = c.eight_bit ? static_cast<float*>(at(v_absmax)) : nullptr,
            .n = c.n,
            .param_dtype = c.dtype,
            .grad_dtype = c.grad_dtype,
            .decay = c.decay,
            .copy = {.data = c.copy_columns != 0 ? at(copy) : nullptr,
                     .dtype = c.copy_dtype,
                     .scale = 1.5f,
                     .columns = std::max<std::int64_t>(c.copy_columns, 1),
                     .pitch = std::max<std::int64_t>(c.copy_pitch, 1)}};
  }

  AdamWTensor on_host(const TensorCase& c) {
    return tensor(c, [](std::vector<std::byte>& bytes) -> void* { return bytes.data(); });
  }
};

}  // namespace qlora::kernels::test
