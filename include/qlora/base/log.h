#pragma once
// Messages to the person at the terminal, on standard error (standard output belongs to results).

#include <fmt/format.h>

#include <string_view>

namespace qlora::log {

void write_line(std::string_view prefix, std::string_view text);

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write_line("", fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write_line("warning: ", fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace qlora::log
