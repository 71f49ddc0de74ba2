#pragma once
// The one exception of this project, and the two ways to raise it.

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace qlora {

// A user's mistake or a failing environment: bad config, file, data, device. Each program's main
// catches it once, prints the one line and exits with code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error. The text says where, what was expected, what was found, and what to try.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// A broken promise between two parts of this program; never reached by user input.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace qlora

#define QLORA_ASSERT(condition) \
  ((condition) ? void(0) : ::qlora::assertion_failed(#condition, __FILE__, __LINE__))
