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

// A stand-in for a parameter that every update rewrites: copy = parameter * scale, rounded once.
struct CopyTarget {
  at::Tensor parameter;
  at::Tensor copy;  // the parameter's size; its rows may lie further apart than they are long
  float scale = 1;
};

}  // namespace qlora::tensor
