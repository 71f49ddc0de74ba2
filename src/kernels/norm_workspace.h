#pragma once

#include "qlora/kernels/gradient_norm.h"

namespace qlora::kernels {

// How gradient_norm divides its scratch memory.
struct NormWorkspace {
  NormWorkspace(const AdamWTable& table, void* memory)
      : chunks(static_cast<double*>(memory)),
        tensors(chunks + table.chunk_count),
        tickets(reinterpret_cast<std::uint32_t*>(tensors + table.tensor_count)) {}

  double* chunks;          // [chunk_count] sums of squares
  double* tensors;         // [tensor_count]
  std::uint32_t* tickets;  // [tensor_count + 1] parts summed of each tensor, and tensors summed
};

}  // namespace qlora::kernels
