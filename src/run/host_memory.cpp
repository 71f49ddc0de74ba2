#include "run/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace qlora::run {
namespace {

std::optional<std::int64_t> first_number(const char* path) {
  std::ifstream file(path);
  std::int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// "MemAvailable:   12345 kB"
std::optional<std::int64_t> system_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::int64_t kilobytes = 0;
  for (std::string unit; file >> key >> kilobytes && std::getline(file, unit);) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return std::nullopt;
}

std::optional<std::int64_t> group_available() {
  const auto limit = first_number("/sys/fs/cgroup/memory.max");  // "max" where there is none
  const auto used = first_number("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return std::nullopt;
  return *limit - *used;
}

}  // namespace

std::int64_t available_host_memory() {
  constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::max();
  return std::min(system_available().value_or(kUnknown), group_available().value_or(kUnknown));
}

}  // namespace qlora::run
