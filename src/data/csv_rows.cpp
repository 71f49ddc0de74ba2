#include "data/row_error.h"
#include "data/row_reader.h"
#include "data/text_scanner.h"
#include "qlora/base/text_util.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace qlora::data {
namespace {

constexpr char kQuote = '"';

class CsvRows : public RowReader {
 public:
  // With `quoted`, a field may stand in quotes.
  CsvRows(const std::filesystem::path& path, char separator, bool quoted)
      : scanner_(path), separator_(separator), quoted_(quoted) {
    Row header;
    if (!next(header)) fail("{}: the file is empty; expected a header of columns", scanner_.name());
    check_row_text(scanner_.name(), header);
    columns_ = split(header);
    for (auto column = columns_.begin(); column != columns_.end(); ++column) {
      if (std::find(columns_.begin(), column, *column) == column) continue;
      fail("{}:{}: the header names column '{}' twice", scanner_.name(), header.line, *column);
    }
  }

  bool next(Row& row) override {
    do {
      if (scanner_.at_end()) return false;
      scanner_.start(row);
      take_record(row);
      if (row.text.ends_with('\r')) row.text.pop_back();
    } while (row.text.empty());
    return true;
  }

  Json parse(const Row& row) const override {
    check_row_text(scanner_.name(), row);
    std::vector<std::string> fields = split(row);
    if (fields.size() != columns_.size()) {
      fail_row(RowFault::Syntax, "{}:{}: the row has {} fields; the header has {} ({})",
               scanner_.name(), row.line, fields.size(), columns_.size(), join(columns_));
    }
    Json object = Json::object();
    for (std::size_t i = 0; i < fields.size(); ++i) object[columns_[i]] = std::move(fields[i]);
    return object;
  }

 private:
  // Up to the line end, which may be several lines away: quotes hide line ends.
  void take_record(Row& row) {
    if (!quoted_) return scanner_.take_line(row);
    enum class At { Start, Plain, Quoted, Closed } at = At::Start;  // of a field
    for (; !scanner_.at_end(); scanner_.take(row)) {
      const char c = scanner_.peek();
      if (at == At::Quoted) {
        if (c == kQuote) at = At::Closed;
      } else if (c == '\n') {
        return scanner_.drop();
      } else if (c == separator_) {
        at = At::Start;
      } else {  // a doubled quote closes and opens again
        at = c == kQuote && at != At::Plain ? At::Quoted : At::Plain;
      }
    }
    if (at == At::Quoted) {
      fail("{}: the file ends inside a quoted field of this row; is a quote missing?",
           place_in_row(scanner_.name(), row, 0));
    }
  }

  std::vector<std::string> split(const Row& row) const {
    std::vector<std::string> fields;
    std::size_t next = 0;
    do {
      fields.push_back(take_field(row, next));
    } while (next++ < row.text.size());
    return fields;
  }

  // The field that begins at `next`, which is then at the separator behind it or at the end.
  std::string take_field(const Row& row, std::size_t& next) const {
    const std::string& text = row.text;
    if (!quoted_ || next == text.size() || text[next] != kQuote) {
      const std::size_t begin = next;
      next = std::min(text.find(separator_, begin), text.size());
      return text.substr(begin, next - begin);
    }
    std::string field;
    for (++next; next < text.size(); ++next) {
      if (text[next] == kQuote && (++next == text.size() || text[next] != kQuote)) break;
      field += text[next];
    }
    if (next < text.size() && text[next] != separator_) {
      fail_row(RowFault::Syntax,
               "{}: text behind the closing quote of a field; a quote within "
               "quotes is written twice",
               place_in_row(scanner_.name(), row, next));
    }
    return field;
  }

  TextScanner scanner_;
  char separator_;
  bool quoted_;
  std::vector<std::string> columns_;
};

}  // namespace

std::unique_ptr<RowReader> open_csv_rows(const std::filesystem::path& path) {
  return std::make_unique<CsvRows>(path, ',', true);
}

std::unique_ptr<RowReader> open_tsv_rows(const std::filesystem::path& path) {
  return std::make_unique<CsvRows>(path, '\t', false);
}

}  // namespace qlora::data
