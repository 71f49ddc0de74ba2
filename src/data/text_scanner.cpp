#include "data/text_scanner.h"

#include "data/row_error.h"
#include "qlora/base/text_util.h"

#include <algorithm>
#include <cstring>

namespace qlora::data {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;
constexpr std::string_view kSpaces = " \t\r\n";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

TextScanner::TextScanner(const std::filesystem::path& path)
    : name_(path.string()), stream_(open_bytes(path)), buffer_(kBufferBytes) {
  while (end_ < kByteOrderMark.size()) {
    const std::size_t count = stream_->read(std::span(buffer_).subspan(end_));
    if (count == 0) break;
    end_ += count;
  }
  if (std::string_view(buffer_.data(), end_).starts_with(kByteOrderMark)) {
    next_ = kByteOrderMark.size();
  }
}

bool TextScanner::fill() {
  next_ = 0;
  end_ = stream_->read(buffer_);
  return end_ > 0;
}

void TextScanner::take_line(Row& row) {
  while (!at_end()) {
    const char* const begin = buffer_.data() + next_;
    const auto* const found = static_cast<const char*>(std::memchr(begin, '\n', end_ - next_));
    const std::size_t length =
        found == nullptr ? end_ - next_ : static_cast<std::size_t>(found - begin);
    const std::size_t room = kMaxRowBytes + 1 - std::min(row.text.size(), kMaxRowBytes + 1);
    row.text.append(begin, std::min(length, room));
    next_ += length;
    column_ += static_cast<std::int64_t>(length);
    if (found != nullptr) return drop();
  }
}

void TextScanner::skip_spaces() {
  while (!at_end() && kSpaces.find(peek()) != std::string_view::npos) drop();
}

void TextScanner::start(Row& row) const {
  row.text.clear();
  row.line = line_;
  row.column = column_;
}

void TextScanner::fail_here(std::string_view what) const {
  fail("{}:{}:{}: {}", name_, line_, column_, what);
}

std::string place_in_row(const std::string& file, const Row& row, std::size_t offset) {
  const std::string_view before = std::string_view(row.text).substr(0, offset);
  const auto lines = std::ranges::count(before, '\n');
  const std::int64_t column = lines == 0 ? row.column + std::ssize(before)
                                         : std::ssize(before) - std::int64_t(before.rfind('\n'));
  return fmt::format("{}:{}:{}", file, row.line + lines, column);
}

void check_row_text(const std::string& file, const Row& row) {
  if (row.text.size() > kMaxRowBytes) {
    fail_row(RowFault::TooLong,
             "{}: the row that begins here is longer than {}; is a line end or a quote missing?",
             place_in_row(file, row, 0), human_bytes(kMaxRowBytes));
  }
  if (const std::size_t bad = find_invalid_utf8(row.text); bad != std::string::npos) {
    fail_row(RowFault::Encoding, "{}: not valid UTF-8; save the file as UTF-8",
             place_in_row(file, row, bad));
  }
  if (const std::size_t nul = row.text.find('\0'); nul != std::string::npos) {
    fail_row(RowFault::Encoding, "{}: a NUL byte; is this a text file?",
             place_in_row(file, row, nul));
  }
}

}  // namespace qlora::data
