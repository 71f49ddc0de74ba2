#include "data/row_reader.h"

#include <array>
#include <string_view>
#include <utility>

namespace qlora::data {
namespace {

using Ending = std::pair<std::string_view, FileKind>;
constexpr std::array<Ending, 7> kEndings{{{".json", FileKind::Json},
                                          {".jsonl", FileKind::Json},
                                          {".ndjson", FileKind::Json},
                                          {".csv", FileKind::Csv},
                                          {".tsv", FileKind::Tsv},
                                          {".txt", FileKind::Text},
                                          {".parquet", FileKind::Parquet}}};

}  // namespace

std::optional<FileKind> file_kind(const std::filesystem::path& path) {
  std::filesystem::path name = path.filename();
  const bool compressed = name.extension() == ".gz" || name.extension() == ".zst";
  if (compressed) name = name.stem();
  for (const auto& [ending, kind] : kEndings) {
    const bool fits = !compressed || kind != FileKind::Parquet;
    if (fits && name.extension() == ending) return kind;
  }
  return std::nullopt;
}

std::unique_ptr<RowReader> open_rows(const std::filesystem::path& path, SampleBy sample_by) {
  const std::optional<FileKind> kind = file_kind(path);
  if (!kind)
    fail("{}: the name tells no kind of file; expected {}", path.string(), kDataFileEndings);
  switch (*kind) {
    case FileKind::Json: return open_json_rows(path);
    case FileKind::Csv: return open_csv_rows(path);
    case FileKind::Tsv: return open_tsv_rows(path);
    case FileKind::Text: return open_text_rows(path, sample_by);
    case FileKind::Parquet: break;
  }
  return open_parquet_rows(path);
}

}  // namespace qlora::data
