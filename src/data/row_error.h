#pragma once
// What can be wrong with one row while the others are fine: with data.on_error: skip such rows are
// counted by kind.

#include "qlora/base/error.h"

#include <string_view>

namespace qlora::data {

enum class RowFault {
  Syntax,
  Encoding,
  TooLong,
  MissingColumn,
  WrongType,
  RoleOrder,
  Refused,
  File,
};

constexpr std::string_view name_of(RowFault fault) {
  switch (fault) {
    case RowFault::Syntax: return "not valid JSON or CSV";
    case RowFault::Encoding: return "not UTF-8 text";
    case RowFault::TooLong: return "too long";
    case RowFault::MissingColumn: return "a column is missing";
    case RowFault::WrongType: return "a value of the wrong type";
    case RowFault::RoleOrder: return "roles out of order";
    case RowFault::Refused: return "refused by the template or tokenizer";
    case RowFault::File: break;
  }
  return "rest of a file, unreadable";
}

class RowError : public Error {
 public:
  RowError(RowFault fault, const std::string& text) : Error(text), fault_(fault) {}
  RowFault fault() const { return fault_; }

 private:
  RowFault fault_;
};

template <class... Args>
[[noreturn]] void fail_row(RowFault fault, fmt::format_string<Args...> format, Args&&... args) {
  throw RowError(fault, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace qlora::data
