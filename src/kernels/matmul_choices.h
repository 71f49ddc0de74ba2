#pragma once
// Which algorithm was chosen for which product, and its text: a line that names GPU and library,
// then a line for each product, its numbers and the algorithm's bytes in hexadecimal digits.

#include "qlora/kernels/matmul.h"

#include <cublasLt.h>

#include <map>

namespace qlora::kernels::cuda {

// What an algorithm depends on.
struct MatmulKey {
  MatmulShape shape;
  bool adds = false;
  bool bias = false;
  std::uint32_t alignment = 256;  // the least of the operands'

  auto operator<=>(const MatmulKey&) const = default;
};

using MatmulChoices = std::map<MatmulKey, cublasLtMatmulAlgo_t>;

std::string write_choices(const MatmulChoices& choices);

// Without lines that cannot be read; nothing where the first one names another GPU or library.
MatmulChoices read_choices(std::string_view text);

}  // namespace qlora::kernels::cuda
