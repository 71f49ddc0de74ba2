#pragma once
// The rows of a JSON or JSONL file, each with its line.

#include "qlora/base/json.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::data {

class RowFile {
 public:
  // Reads the whole file and finds its rows: the objects of a list, or one object a line. Throws
  // Error "file:line:column: ..." where it is missing, empty, not UTF-8, or ends inside a list.
  explicit RowFile(const std::filesystem::path& path);
  RowFile(const RowFile&) = delete;
  RowFile& operator=(const RowFile&) = delete;

  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  // Row i as an object. Throws Error "file:line:column: ..." where it is not valid JSON.
  Json parse(std::int64_t i) const;
  std::int64_t line(std::int64_t i) const { return rows_[static_cast<std::size_t>(i)].line; }
  // "file:line" of row i.
  std::string where(std::int64_t i) const;

 private:
  struct Row {
    std::string_view text;
    std::int64_t line;
  };

  [[noreturn]] void fail_at(std::size_t offset, std::string_view what) const;
  void check_text() const;
  void find_lines(std::size_t begin);
  void find_items(std::size_t begin);
  std::size_t skip_space(std::size_t offset) const;
  std::size_t item_end(std::size_t begin) const;

  std::string path_;
  std::string text_;
  std::vector<Row> rows_;
};

}  // namespace qlora::data
