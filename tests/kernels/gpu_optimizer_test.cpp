// The CUDA kernels of the optimizer against their CPU twins, bit for bit.

#include "kernels/adamw_tensors.h"
#include "kernels/gpu_support.h"

#include <cmath>
#include <memory>

namespace qlora::kernels {
namespace {

using test::OnDevice;
using test::TensorBytes;
using test::TensorCase;

// The parts of a tensor's memory and what they are called.
constexpr std::pair<const char*, std::vector<std::byte> TensorBytes::*> kParts[] = {
    {"param", &TensorBytes::param},
    {"grad", &TensorBytes::grad},
    {"m", &TensorBytes::m},
    {"v", &TensorBytes::v},
    {"m_absmax", &TensorBytes::m_absmax},
    {"v_absmax", &TensorBytes::v_absmax},
    {"copy", &TensorBytes::copy}};

// A tensor on the host and its twin on the device.
struct TwoTensors {
  TensorCase shape;
  TensorBytes host;
  std::map<const void*, std::unique_ptr<OnDevice>> device;  // by the host's address

  TwoTensors(const TensorCase& c, std::uint64_t seed, std::int64_t misalign)
      : shape(c), host(c, seed) {
    for (const auto& [name, part] : kParts) {
      // 16-byte aligned floats, so that only params and gradients go astray.
      const bool moved = part == &TensorBytes::param || part == &TensorBytes::grad;
      device[&(host.*part)] =
          std::make_unique<OnDevice>(std::span<const std::byte>(host.*part), moved ? misalign : 0);
    }
  }

  AdamWTensor on_device() {
    return host.tensor(shape, [&](const std::vector<std::byte>& bytes) -> void* {
      return device.at(&bytes)->data();
    });
  }

  void set_gradient(std::vector<float> values) {
    if (shape.grad_dtype == DType::Float16) {  // finite
      for (float& value : values) value = value > 6e4f ? 6e4f : value < -6e4f ? -6e4f : value;
    }
    std::ranges::copy(test::to_bytes(values, shape.grad_dtype), host.grad.begin());
    QLORA_CUDA(cudaMemcpy(device.at(&host.grad)->data(), host.grad.data(), host.grad.size(),
                          cudaMemcpyHostToDevice));
  }

  void expect_same(const std::string& where) const {
    for (const auto& [name, part] : kParts) {
      EXPECT_EQ(test::first_difference(device.at(&(host.*part))->download(), host.*part), -1)
          << where << " " << name;
    }
  }
};

// A table on the host and the same on the device.
class TwoTables {
 public:
  explicit TwoTables(std::vector<std::unique_ptr<TwoTensors>>& tensors)
      : host_(gather(tensors, [](TwoTensors& t) { return t.host.on_host(t.shape); })),
        images_(gather(tensors, [](TwoTensors& t) { return t.on_device(); })),
        owner_images_(number_chunks(images_)),
        tensors_(images_),
        owners_(owner_images_),
        workspace_(std::vector<std::byte>(gradient_norm_workspace(host_.view()))),
        norm_(std::vector<std::byte>(sizeof(GradientNorm))) {}

  // Norm and update on both, the norms equal to the last bit.
  void step(const AdamWStep& step, const ClipOptions& options) {
    const GradientNorm norm = test::norm_of(host_, options);
    cpu::adamw(host_.view(), step, &norm, nullptr);
    AdamWTable table = host_.view();
    table.tensors = tensors_.data<AdamWTensor>();
    table.owners = owners_.data<std::int32_t>();
    cuda::gradient_norm(table, options, workspace_.data(), norm_.data<GradientNorm>(), nullptr);
    cuda::adamw(table, step, norm_.data<GradientNorm>(), nullptr);
    GradientNorm found;
    const auto bytes = norm_.download();
    std::memcpy(&found, bytes.data(), sizeof found);
    EXPECT_EQ(found.finite, norm.finite);
    if (!norm.finite) return;
    EXPECT_EQ(found.norm, norm.norm);
    EXPECT_EQ(found.factor, norm.factor);
  }

 private:
  template <class Get>
  static std::vector<AdamWTensor> gather(std::vector<std::unique_ptr<TwoTensors>>& tensors,
                                         const Get& get) {
    std::vector<AdamWTensor> result;
    for (auto& tensor : tensors) result.push_back(get(*tensor));
    return result;
  }

  test::HostTable host_;
  std::vector<AdamWTensor> images_;
  std::vector<std::int32_t> owner_images_;
  OnDevice tensors_, owners_, workspace_, norm_;
};

// Zeros, tiny and huge values among ordinary ones: every branch of the arithmetic.
std::vector<float> hard_gradient(std::int64_t n, std::uint64_t seed) {
  std::vector<float> values = test::random_floats(seed, n, 0.02f);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t block = i / 256 % 6;
    if (block == 1) values[i] = 0;
    if (block == 2 && i % 7 == 0) values[i] = 0;
    if (block == 3) values[i] *= i % 3 == 0 ? 1e-18f : 1e-24f;
    if (block == 4 && i % 5 == 0) values[i] *= 1e15f;
  }
  return values;
}

class GpuAdamW : public test::GpuTest {};

void expect_same_steps(std::int64_t misalign, const AdamWStep& options, const ClipOptions& clip,
                       bool spoil_second) {
  std::vector<std::unique_ptr<TwoTensors>> tensors;
  for (const TensorCase& c : test::many_cases()) {
    tensors.push_back(std::make_unique<TwoTensors>(c, tensors.size(), misalign));
  }
  TwoTables tables(tensors);
  for (int t = 1; t <= 5; ++t) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      std::vector<float> values = hard_gradient(tensors[i]->shape.n, 100 * t + i);
      if (spoil_second && t == 2 && i == 40) values.back() = std::nanf("");
      tensors[i]->set_gradient(values);
    }
    AdamWStep step = options;
    step.step = t;
    tables.step(step, clip);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      tensors[i]->expect_same(fmt::format("tensor {} step {} misalign {}", i, t, misalign));
    }
  }
}

TEST_F(GpuAdamW, ManyTensorsEqualTheCpu) {
  for (const std::int64_t misalign : {0, 4}) {
    expect_same_steps(misalign, {.lr = 3e-3, .weight_decay = 0.1}, {.gradient_scale = 0.75}, false);
  }
}

TEST_F(GpuAdamW, ClippedSkippedAndZeroedEqualTheCpu) {
  expect_same_steps(0, {.lr = 1e-2, .eps = 1e-3, .zero_gradients = true}, {.max_norm = 0.5}, true);
}

// The kernel leaves out an element whose square is not finite, while the norm would skip the
// update: so the update is asked for directly.
TEST_F(GpuAdamW, UnusableElementsAreLeftAloneAsOnTheCpu) {
  const TensorCase shape{.n = 20001};
  TwoTensors tensor(shape, 1, 0);
  for (int t = 1; t <= 3; ++t) {
    auto values = hard_gradient(shape.n, t);
    values[5] = std::nanf(""), values[300] = -INFINITY, values.back() = 1e30f;
    tensor.set_gradient(values);
    const AdamWStep step{.step = t};
    test::update(tensor.host.on_host(shape), step);
    std::vector<AdamWTensor> image = {tensor.on_device()};
    const std::vector<std::int32_t> owner_image = number_chunks(image);
    OnDevice tensors(image), owners(owner_image), norm(std::vector<GradientNorm>(1));
    cuda::adamw({.tensors = tensors.data<AdamWTensor>(),
                 .owners = owners.data<std::int32_t>(),
                 .tensor_count = 1,
                 .chunk_count = static_cast<std::int64_t>(owner_image.size())},
                step, norm.data<GradientNorm>(), nullptr);
    tensor.expect_same(fmt::format("step {}", t));
  }
}

class GpuGradientNorm : public test::GpuTest {};

// Several launches over the same workspace: each leaves it ready for the next.
TEST_F(GpuGradientNorm, EqualsTheCpuOverAndOver) {
  for (const DType dtype : test::kFloatTypes) {
    std::vector<std::unique_ptr<TwoTensors>> tensors;
    for (const std::int64_t n : {5000003, 1, 16385, 255, 700001}) {
      const TensorCase shape{.n = n, .dtype = dtype, .grad_dtype = dtype};
      tensors.push_back(std::make_unique<TwoTensors>(shape, 1, 0));
      tensors.back()->set_gradient(test::random_floats(n, n));
    }
    TwoTables tables(tensors);
    for (int t = 1; t <= 3; ++t) tables.step({.step = t}, {.gradient_scale = 0.1});
  }
}

}  // namespace
}  // namespace qlora::kernels
