#include "data/row_error.h"
#include "data/row_reader.h"
#include "data/text_scanner.h"

#include <algorithm>

namespace qlora::data {
namespace {

constexpr std::string_view kExpected =
    "expected JSON (a list of objects) or JSONL (one object a line)";

class JsonRows : public RowReader {
 public:
  explicit JsonRows(const std::filesystem::path& path) : scanner_(path) {
    scanner_.skip_spaces();
    if (scanner_.at_end()) fail("{}: the file is empty; {}", scanner_.name(), kExpected);
    is_list_ = scanner_.peek() == '[';
    if (is_list_) {
      scanner_.drop();
    } else if (scanner_.peek() != '{') {
      scanner_.fail_here(kExpected);
    }
  }

  bool next(Row& row) override {
    if (ended_) return false;
    const bool found = is_list_ ? next_item(row) : next_line(row);
    if (!found && !any_) fail("{}: the file has no rows", scanner_.name());
    any_ = true;
    return found;
  }

  Json parse(const Row& row) const override {
    check_row_text(scanner_.name(), row);
    const std::string where = fmt::format("{}:{}", scanner_.name(), row.line);
    Json columns;
    try {
      columns = parse_json(row.text, where);
    } catch (const Error& error) {
      fail_syntax(row, error);
    }
    if (!columns.is_object()) {
      fail_row(RowFault::Syntax, "{}: a row is {}; expected an object", where, columns.type_name());
    }
    return columns;
  }

 private:
  bool next_line(Row& row) {
    scanner_.skip_spaces();
    if (scanner_.at_end()) return false;
    scanner_.start(row);
    scanner_.take_line(row);
    return true;
  }

  bool next_item(Row& row) {
    scanner_.skip_spaces();
    if (scanner_.at_end()) scanner_.fail_here("the list is not closed; is the file truncated?");
    const bool found = any_ || scanner_.peek() != ']';  // behind a comma an item must come
    if (found) {
      scanner_.start(row);
      take_item(row);
      if (scanner_.peek() == ',') {
        scanner_.drop();
        return true;
      }
    }
    scanner_.drop();
    scanner_.skip_spaces();
    if (!scanner_.at_end()) scanner_.fail_here("text behind the end of the list");
    ended_ = true;
    return found;
  }

  // Up to the item's comma or the list's end.
  void take_item(Row& row) {
    int depth = 0;
    bool in_string = false;
    while (!scanner_.at_end()) {
      const char c = scanner_.peek();
      if (in_string) {
        if (c == '\\') {
          scanner_.take(row);
          if (scanner_.at_end()) break;
        } else if (c == '"') {
          in_string = false;
        }
      } else if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if ((c == '}' || c == ']') && depth > 0) {
        --depth;
      } else if (depth == 0 && (c == ',' || c == ']')) {
        return;
      }
      scanner_.take(row);
    }
    fail("{}: the file ends inside this row of the list; is it truncated?",
         place_in_row(scanner_.name(), row, 0));
  }

  // parse_json names a place within the row; says where that is in the file.
  [[noreturn]] void fail_syntax(const Row& row, const Error& problem) const {
    try {
      [[maybe_unused]] const Json again = Json::parse(row.text);
    } catch (const Json::parse_error& error) {
      const std::size_t byte = std::clamp<std::size_t>(error.byte, 1, row.text.size() + 1);
      const std::string_view what = error.what();
      const std::size_t reason = what.find(": ");
      fail_row(RowFault::Syntax, "{}: not valid JSON: {}",
               place_in_row(scanner_.name(), row, byte - 1),
               reason == std::string_view::npos ? what : what.substr(reason + 2));
    } catch (const Json::exception&) {  // a number past double's range: it has no place
    }
    throw RowError(RowFault::Syntax, problem.what());
  }

  TextScanner scanner_;
  bool is_list_ = false;
  bool any_ = false;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<RowReader> open_json_rows(const std::filesystem::path& path) {
  return std::make_unique<JsonRows>(path);
}

}  // namespace qlora::data
