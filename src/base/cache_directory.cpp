#include "qlora/base/cache_directory.h"

#include <cstdlib>

namespace qlora {

std::filesystem::path cache_directory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto own = variable("QLORA_CACHE_DIR"); !own.empty()) return own;
  if (const auto all = variable("XDG_CACHE_HOME"); !all.empty()) return all / "qlora";
  if (const auto home = variable("HOME"); !home.empty()) return home / ".cache" / "qlora";
  return {};
}

}  // namespace qlora
