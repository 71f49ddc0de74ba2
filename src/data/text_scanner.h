#pragma once
// A text file byte by byte, with the line and column of the next one.

#include "data/byte_stream.h"
#include "data/row_reader.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::data {

class TextScanner {
 public:
  // Passes over a byte order mark. Throws Error where the file cannot be read or is empty.
  explicit TextScanner(const std::filesystem::path& path);

  bool at_end() { return next_ == end_ && !fill(); }
  char peek() const { return buffer_[next_]; }  // not at the end
  void drop() {
    const bool line_end = buffer_[next_++] == '\n';
    line_ += line_end ? 1 : 0;
    column_ = line_end ? 1 : column_ + 1;
  }
  // Moves the next byte to the row's text, unless that is too long already.
  void take(Row& row) {
    if (row.text.size() <= kMaxRowBytes) row.text += peek();
    drop();
  }
  // The rest of the line goes to the row's text, its end is dropped. (drop() for many bytes.)
  void take_line(Row& row);
  void skip_spaces();

  // An empty row that begins here.
  void start(Row& row) const;
  // Throws Error "FILE:LINE:COLUMN: what" for the next byte.
  [[noreturn]] void fail_here(std::string_view what) const;
  const std::string& name() const { return name_; }

 private:
  bool fill();

  std::string name_;
  std::unique_ptr<ByteStream> stream_;
  std::vector<char> buffer_;
  std::size_t next_ = 0;
  std::size_t end_ = 0;
  std::int64_t line_ = 1;
  std::int64_t column_ = 1;
};

// "FILE:LINE:COLUMN" of byte `offset` of a row's text.
std::string place_in_row(const std::string& file, const Row& row, std::size_t offset);

// Throws RowError where the row is too long, no UTF-8, or holds a NUL byte.
void check_row_text(const std::string& file, const Row& row);

}  // namespace qlora::data
