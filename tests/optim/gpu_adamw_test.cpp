#include "qlora/optim/adamw.h"
#include "support/gpu.h"

#include <ATen/ATen.h>

namespace qlora::optim {
namespace {

// What some steps leave, on the host: parameters, copies and state.
struct Result {
  std::vector<at::Tensor> tensors;
  std::vector<double> norms;
  std::int64_t steps = 0;
};

// Sizes that make pages end within tensors, before small ones and at a tensor's end; the last
// step but one has a gradient that is not finite. `wait`: the outcome is asked for after each step.
Result after_steps(c10::Device device, const AdamWOptions& options, bool wait) {
  const std::vector<std::vector<std::int64_t>> shapes = {
      {70000, 16}, {16, 300}, {100, 16}, {131072, 16}, {5, 5}, {290001, 16}, {16, 4096}};
  std::vector<tensor::Parameter> parameters;
  std::vector<tensor::CopyTarget> copies;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    at::manual_seed(i);
    const at::Tensor value = at::randn(shapes[i]).to(device).requires_grad_(true);
    parameters.push_back({fmt::format("p{}", i), value, i % 2 == 0});
    if (i % 3 != 0) continue;
    const at::Tensor wide =
        at::zeros({shapes[i][0], shapes[i][1] + 8}, at::TensorOptions(device).dtype(at::kBFloat16));
    copies.push_back({value, wide.slice(1, 0, shapes[i][1]), 2.0f});
  }
  AdamW optimizer(parameters, options, copies);
  Result result;
  for (std::uint64_t step = 1; step <= 5; ++step) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      at::manual_seed(100 * step + i);
      at::Tensor gradient = at::randn(shapes[i]);
      if (step == 4 && i == 3) gradient.view({-1})[7] = std::numeric_limits<float>::quiet_NaN();
      if (step == 2 && i == 5) gradient = at::Tensor();
      parameters[i].value.mutable_grad() = gradient.defined() ? gradient.to(device) : gradient;
    }
    optimizer.step(1e-2, {.gradient_scale = 0.5, .max_norm = 100});
    if (wait && optimizer.outcome().updated) {
      result.norms.push_back(optimizer.outcome().gradient_norm);
    }
  }
  result.steps = optimizer.steps();
  for (const auto& p : parameters) result.tensors.push_back(p.value.detach().cpu());
  for (const auto& copy : copies) result.tensors.push_back(copy.copy.cpu());
  for (const auto& s : optimizer.state()) result.tensors.push_back(s.value.clone());
  return result;
}

void expect_equal(const Result& a, const Result& b, const char* what) {
  EXPECT_EQ(a.steps, 4) << what;
  EXPECT_EQ(b.steps, 4) << what;
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_TRUE(at::equal(a.tensors[i], b.tensors[i])) << what << ", tensor " << i;
  }
}

TEST(GpuAdamW, PagedEqualsResidentEqualsCpu) {
  QLORA_REQUIRE_GPU();
  for (const bool eight_bit : {true, false}) {
    AdamWOptions options{.eight_bit = eight_bit, .weight_decay = 0.1};
    const Result cpu = after_steps(c10::kCPU, options, true);
    const Result resident = after_steps(test::kGpu, options, true);
    EXPECT_EQ(resident.norms, cpu.norms);
    expect_equal(resident, cpu, "on the GPU");
    expect_equal(after_steps(test::kGpu, options, false), cpu, "without waiting");
    options.paged = true;
    expect_equal(after_steps(test::kGpu, options, true), cpu, "paged");
    expect_equal(after_steps(test::kGpu, options, false), cpu, "paged without waiting");
  }
}

TEST(GpuAdamW, PagedStateIsRestored) {
  QLORA_REQUIRE_GPU();
  const at::Tensor start = at::randn({1 << 20, 5});
  const auto run = [&](bool restart) {
    const tensor::Parameter p{"p", start.clone().to(test::kGpu).requires_grad_(true), true};
    auto optimizer = std::make_unique<AdamW>(std::vector{p}, AdamWOptions{.paged = true});
    for (std::uint64_t step = 1; step <= 4; ++step) {
      at::manual_seed(step);
      p.value.mutable_grad() = at::randn(start.sizes()).to(test::kGpu);
      optimizer->step(1e-2);
      if (!restart || step != 2) continue;
      std::vector<tensor::Parameter> saved;
      for (const auto& s : optimizer->state()) saved.push_back({s.name, s.value.clone(), false});
      optimizer = std::make_unique<AdamW>(std::vector{p}, AdamWOptions{.paged = true});
      optimizer->load_state(saved, 2, "test");
    }
    return p.value.detach().cpu();
  };
  EXPECT_TRUE(at::equal(run(true), run(false)));
}

}  // namespace
}  // namespace qlora::optim
