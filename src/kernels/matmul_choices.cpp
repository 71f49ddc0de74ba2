#include "matmul_choices.h"

#include "qlora/base/error.h"
#include "qlora/kernels/cuda_check.h"

#include <cuda_runtime_api.h>

#include <array>
#include <bit>
#include <sstream>

namespace qlora::kernels::cuda {
namespace {

using AlgorithmWords = std::array<std::uint64_t, sizeof(cublasLtMatmulAlgo_t) / 8>;
static_assert(sizeof(AlgorithmWords) == sizeof(cublasLtMatmulAlgo_t));

std::string title() {
  int device = 0;
  cudaDeviceProp properties{};
  QLORA_CUDA(cudaGetDevice(&device));
  QLORA_CUDA(cudaGetDeviceProperties(&properties, device));
  return fmt::format("cuBLASLt {} {} {}", cublasLtGetVersion(), properties.name,
                     properties.multiProcessorCount);
}

// Calls visit with every number of a key.
template <class Key, class Visit>
void each_number(Key& key, const Visit& visit) {
  auto& s = key.shape;
  for (auto* number : {&s.m, &s.n, &s.k, &s.a_stride, &s.b_stride, &s.c_stride, &s.d_stride}) {
    visit(*number);
  }
  for (auto* flag : {&s.transpose_a, &s.transpose_b, &key.adds, &key.bias}) visit(*flag);
  for (auto* type : {&s.in, &s.out}) visit(*type);
  visit(key.alignment);
}

bool read_line(std::istringstream line, MatmulKey& key, cublasLtMatmulAlgo_t& algorithm) {
  each_number(key, [&](auto& number) {
    std::int64_t value = 0;
    line >> value;
    number = static_cast<std::remove_reference_t<decltype(number)>>(value);
  });
  AlgorithmWords words{};
  line >> std::hex;
  for (std::uint64_t& word : words) line >> word;
  algorithm = std::bit_cast<cublasLtMatmulAlgo_t>(words);
  std::string rest;
  return !line.fail() && !(line >> rest);
}

}  // namespace

std::string write_choices(const MatmulChoices& choices) {
  std::string text = title() + "\n";
  for (const auto& [key, algorithm] : choices) {
    each_number(key, [&](const auto& number) {
      text += fmt::format("{} ", static_cast<std::int64_t>(number));
    });
    for (const std::uint64_t word : std::bit_cast<AlgorithmWords>(algorithm)) {
      text += fmt::format(" {:x}", word);
    }
    text += '\n';
  }
  return text;
}

MatmulChoices read_choices(std::string_view text) {
  MatmulChoices choices;
  std::istringstream lines{std::string(text)};
  std::string line;
  if (!std::getline(lines, line) || line != title()) return choices;
  while (std::getline(lines, line)) {
    MatmulKey key;
    cublasLtMatmulAlgo_t algorithm{};
    if (read_line(std::istringstream(line), key, algorithm)) choices[key] = algorithm;
  }
  return choices;
}

}  // namespace qlora::kernels::cuda
