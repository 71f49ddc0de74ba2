#include "data/row_reader.h"
#include "data/text_scanner.h"

namespace qlora::data {
namespace {

class TextRows : public RowReader {
 public:
  TextRows(const std::filesystem::path& path, SampleBy sample_by)
      : scanner_(path), sample_by_(sample_by) {
    if (scanner_.at_end()) fail("{}: the file is empty; expected text", scanner_.name());
  }

  bool next(Row& row) override {
    row.text.clear();
    while (!scanner_.at_end()) {
      if (row.text.empty()) scanner_.start(row);
      const std::size_t before = row.text.size();
      scanner_.take_line(row);
      if (row.text.ends_with('\r')) row.text.pop_back();
      const bool blank = row.text.find_first_not_of(" \t", before) == std::string::npos;
      if (blank && sample_by_ != SampleBy::Document) {
        row.text.resize(before);
        if (before > 0) break;
        continue;
      }
      if (sample_by_ == SampleBy::Line) return true;
      if (row.text.size() <= kMaxRowBytes) row.text += '\n';
    }
    if (row.text.ends_with('\n')) row.text.pop_back();
    return !row.text.empty();
  }

  Json parse(const Row& row) const override {
    check_row_text(scanner_.name(), row);
    return Json{{"text", row.text}};
  }

 private:
  TextScanner scanner_;
  SampleBy sample_by_;
};

}  // namespace

std::unique_ptr<RowReader> open_text_rows(const std::filesystem::path& path, SampleBy sample_by) {
  return std::make_unique<TextRows>(path, sample_by);
}

}  // namespace qlora::data
