#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace qlora::tensor {

// A trainable tensor under the name by which it is stored.
struct Parameter {
  std::string name;
  at::Tensor value;   // a leaf that requires a gradient
  bool decay = true;  // weight decay applies (not to norms and biases)
};

}  // namespace qlora::tensor
