#include "qlora/base/log.h"

#include <cstdio>

namespace qlora::log {

void write_line(std::string_view prefix, std::string_view text) {
  fmt::print(stderr, "{}{}\n", prefix, text);
}

}  // namespace qlora::log
