#include "qlora/optim/adamw.h"
#include "support/gpu.h"

#include <ATen/ATen.h>

namespace qlora::optim {
namespace {

at::Tensor after_steps(c10::Device device, bool eight_bit, bool paged) {
  at::manual_seed(1);
  // More than two windows of 4 Mi elements, the last one short.
  const at::Tensor start = at::randn({(std::int64_t{9} << 20) + 300});
  const at::Tensor value = start.to(device).requires_grad_(true);
  AdamW optimizer({{"p", value, true}},
                  {.eight_bit = eight_bit, .paged = paged, .weight_decay = 0.1});
  for (std::uint64_t step = 1; step <= 3; ++step) {
    at::manual_seed(step);
    value.mutable_grad() = at::randn(start.sizes()).to(device);
    EXPECT_GT(optimizer.gradient_norm(1), 1.0);
    optimizer.step(1e-2, 0.5);
  }
  return value.detach().cpu();
}

TEST(GpuAdamW, PagedEqualsResidentEqualsCpu) {
  QLORA_REQUIRE_GPU();
  for (const bool eight_bit : {true, false}) {
    const at::Tensor resident = after_steps(c10::Device(c10::kCUDA, 0), eight_bit, false);
    EXPECT_TRUE(at::equal(after_steps(c10::Device(c10::kCUDA, 0), eight_bit, true), resident));
    EXPECT_TRUE(at::equal(after_steps(c10::kCPU, eight_bit, false), resident));
  }
}

}  // namespace
}  // namespace qlora::optim
