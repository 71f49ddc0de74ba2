#include "kernels/support.h"

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels::test {
namespace {

constexpr std::int64_t kGuard = 64;
constexpr std::byte kGuardByte{0xa5};

}  // namespace

std::vector<float> random_floats(std::uint64_t seed, std::int64_t n, float scale) {
  const RandomStream stream(seed, "kernels");
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const float spread = 1 + static_cast<float>(i / 64 % 7);
    values[i] = (stream.uniform(i) - 0.5f) * spread * scale;
  }
  return values;
}

Guarded::Guarded(std::int64_t bytes, std::int64_t misalign)
    : memory_(static_cast<std::size_t>(bytes + misalign + 2 * kGuard + 16), kGuardByte),
      size_(bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory_.data()) + kGuard;
  first_ = kGuard + static_cast<std::int64_t>((16 - address % 16) % 16) + misalign;
}

Guarded::~Guarded() {
  const auto intact = [](std::byte byte) { return byte == kGuardByte; };
  EXPECT_TRUE(std::all_of(memory_.begin(), memory_.begin() + first_, intact)) << "bytes before";
  EXPECT_TRUE(std::all_of(memory_.begin() + first_ + size_, memory_.end(), intact))
      << "bytes after";
}

std::vector<std::byte> to_bytes(std::span<const float> values, DType dtype) {
  const std::size_t size = size_of(dtype);
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t half =
        dtype == DType::Float16 ? float_to_fp16(values[i]) : float_to_bf16(values[i]);
    const void* source = dtype == DType::Float32 ? static_cast<const void*>(&values[i]) : &half;
    std::memcpy(bytes.data() + i * size, source, size);
  }
  return bytes;
}

float element(const void* data, DType dtype, std::int64_t i) {
  if (dtype == DType::Float32) return static_cast<const float*>(data)[i];
  const std::uint16_t half = static_cast<const std::uint16_t*>(data)[i];
  return dtype == DType::Float16 ? fp16_to_float(half) : bf16_to_float(half);
}

float rounded(float value, DType dtype) {
  const auto bytes = to_bytes({&value, 1}, dtype);
  return element(bytes.data(), dtype, 0);
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

std::int64_t first_difference(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto [left, right] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return left == a.end() && right == b.end() ? -1 : left - a.begin();
}

std::map<std::string, std::vector<std::byte>> read_goldens(const std::string& name) {
  const MappedFile file(qlora::test::golden_path(name));
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, file.bytes().data(), sizeof header_size);
  const auto header = file.bytes().subspan(8, header_size);
  const Json tensors =
      parse_json({reinterpret_cast<const char*>(header.data()), header.size()}, name);
  std::map<std::string, std::vector<std::byte>> result;
  for (const auto& [key, tensor] : tensors.items()) {
    if (key == "__metadata__") continue;
    const std::size_t begin = tensor["data_offsets"][0];
    const std::size_t end = tensor["data_offsets"][1];
    result[key] = copy_of(file.bytes().subspan(8 + header_size + begin, end - begin));
  }
  return result;
}

}  // namespace qlora::kernels::test
