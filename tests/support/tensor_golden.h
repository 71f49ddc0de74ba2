#pragma once
// Goldens of tests/data as tensors, and how far results may be from them.

#include "qlora/tensor/tensor_file.h"
#include "support/test_data.h"

#include <ATen/ATen.h>

#include <map>
#include <string>

namespace qlora::test {

using TensorMap = std::map<std::string, at::Tensor>;

inline TensorMap read_golden(const std::string& name) {
  TensorMap result;
  for (const auto& entry : tensor::read_tensors(golden_path(name))) {
    result.emplace(entry.name, entry.value);
  }
  return result;
}

// max |a - b| / max |b|: the error in units of the golden's scale.
inline double scaled_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.to(at::kDouble);
  const double scale = wide.abs().max().item<double>();
  return (a.detach().to(at::kDouble) - wide).abs().max().item<double>() / (scale > 0 ? scale : 1);
}

}  // namespace qlora::test
