#include "data/row_file.h"

#include "qlora/base/file.h"
#include "qlora/base/text_util.h"

#include <algorithm>

namespace qlora::data {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kExpected =
    "expected JSON (a list of objects) or JSONL (one object a line)";

}  // namespace

RowFile::RowFile(const std::filesystem::path& path) : path_(path.string()), text_(read_text(path)) {
  check_text();
  const std::size_t begin = skip_space(text_.starts_with(kByteOrderMark) ? 3 : 0);
  if (begin == text_.size()) fail("{}: the file is empty; {}", path_, kExpected);
  if (text_[begin] == '[') {
    find_items(begin + 1);
  } else if (text_[begin] == '{') {
    find_lines(begin);
  } else {
    fail_at(begin, kExpected);
  }
  if (rows_.empty()) fail("{}: the file has no rows", path_);
}

void RowFile::fail_at(std::size_t offset, std::string_view what) const {
  const std::size_t line_start = offset == 0 ? 0 : text_.rfind('\n', offset - 1) + 1;
  const auto line =
      std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(offset), '\n');
  fail("{}:{}:{}: {}", path_, line + 1, offset - line_start + 1, what);
}

void RowFile::check_text() const {
  if (const std::size_t bad = find_invalid_utf8(text_); bad != std::string::npos) {
    fail_at(bad, "not valid UTF-8; save the file as UTF-8");
  }
  if (const std::size_t nul = text_.find('\0'); nul != std::string::npos) {
    fail_at(nul, "a NUL byte; is this a text file?");
  }
}

std::size_t RowFile::skip_space(std::size_t offset) const {
  return std::min(text_.find_first_not_of(kSpaces, offset), text_.size());
}

void RowFile::find_lines(std::size_t begin) {
  std::int64_t line =
      1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(begin), '\n');
  for (; begin < text_.size(); ++line) {
    const std::size_t end = std::min(text_.find('\n', begin), text_.size());
    const std::string_view text = std::string_view(text_).substr(begin, end - begin);
    if (text.find_first_not_of(kSpaces) != std::string_view::npos) rows_.push_back({text, line});
    begin = end + 1;
  }
}

// Behind the item of a list that starts at `begin`: at its comma or the list's end.
std::size_t RowFile::item_end(std::size_t begin) const {
  int depth = 0;
  for (std::size_t i = begin; i < text_.size(); ++i) {
    const char c = text_[i];
    if (c == '"') {
      for (++i; i < text_.size() && text_[i] != '"'; ++i) {
        if (text_[i] == '\\') ++i;
      }
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    } else if ((c == ',' || c == ']') && depth == 0) {
      return i;
    }
  }
  fail_at(begin, "the file ends inside this row of the list; is it truncated?");
}

void RowFile::find_items(std::size_t begin) {
  std::int64_t line = 1;
  std::size_t counted = 0;
  while (true) {
    begin = skip_space(begin);
    if (begin == text_.size()) fail_at(begin, "the list is not closed; is the file truncated?");
    if (text_[begin] == ']' && rows_.empty()) break;
    const std::size_t end = item_end(begin);
    line += std::count(text_.begin() + static_cast<std::ptrdiff_t>(counted),
                       text_.begin() + static_cast<std::ptrdiff_t>(begin), '\n');
    counted = begin;
    rows_.push_back({std::string_view(text_).substr(begin, end - begin), line});
    begin = end + 1;
    if (text_[end] == ']') break;
  }
  if (rows_.empty()) ++begin;
  begin = skip_space(begin);
  if (begin != text_.size()) fail_at(begin, "text behind the end of the list");
}

std::string RowFile::where(std::int64_t i) const {
  return fmt::format("{}:{}", path_, rows_[static_cast<std::size_t>(i)].line);
}

Json RowFile::parse(std::int64_t i) const {
  const std::string_view text = rows_[static_cast<std::size_t>(i)].text;
  try {
    Json row = parse_json(text, where(i));
    if (!row.is_object()) {
      fail("{}: a row is {}; expected an object", where(i), row.type_name());
    }
    return row;
  } catch (const Error&) {  // names a position within the row; say where that is in the file
    try {
      [[maybe_unused]] const Json again = Json::parse(text.begin(), text.end());
    } catch (const Json::parse_error& error) {
      const auto start = static_cast<std::size_t>(text.data() - text_.data());
      const std::size_t byte = std::clamp<std::size_t>(error.byte, 1, text.size() + 1);
      const std::string_view what = error.what();
      const std::size_t reason = what.find(": ");
      fail_at(start + byte - 1,
              fmt::format("not valid JSON: {}",
                          reason == std::string_view::npos ? what : what.substr(reason + 2)));
    }
    throw;
  }
}

}  // namespace qlora::data
