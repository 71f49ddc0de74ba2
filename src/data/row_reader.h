#pragma once
// The rows of one data file, one after another: memory holds those that are asked for.
//
// Kinds, by the ending of the name (.gz and .zst behind it are looked through):
//   .json .jsonl .ndjson   objects in a list, or one a line; the first character tells
//   .csv                   RFC 4180: a header, fields in "quotes" where they need them
//   .tsv                   a header, tabs; quotes are characters like others
//   .txt                   column 'text': a line, a paragraph or the whole file
//   .parquet               (parquet_rows.cpp)

#include "qlora/base/json.h"
#include "qlora/data/data_config.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace qlora::data {

// A longer row is an error: a line end or a quote is missing, or it is no training text.
inline constexpr std::size_t kMaxRowBytes = std::size_t{16} << 20;

struct Row {
  // The bytes as they stand in the file, at most kMaxRowBytes + 1 of a longer row; Parquet: none.
  std::string text;
  Json columns;           // Parquet's values; null for text files
  std::int64_t line = 0;  // where it begins, from 1; Parquet: its number
  std::int64_t column = 1;
};

class RowReader {
 public:
  virtual ~RowReader() = default;
  // False at the end. Throws Error "FILE:LINE:COLUMN: ..." where the rest cannot be read.
  virtual bool next(Row& row) = 0;
  // The row as an object; for several threads at once. Throws RowError "FILE:LINE:COLUMN: ...".
  virtual Json parse(const Row& row) const = 0;
};

enum class FileKind { Json, Csv, Tsv, Text, Parquet };

inline constexpr std::string_view kDataFileEndings =
    ".json, .jsonl, .ndjson, .csv, .tsv, .txt or .parquet, the text ones also with .gz or .zst";

// Nothing where the ending tells nothing.
std::optional<FileKind> file_kind(const std::filesystem::path& path);

// Throws Error where the file is missing, empty, or of no known kind.
std::unique_ptr<RowReader> open_rows(const std::filesystem::path& path, SampleBy sample_by);

std::unique_ptr<RowReader> open_json_rows(const std::filesystem::path& path);
std::unique_ptr<RowReader> open_csv_rows(const std::filesystem::path& path);
std::unique_ptr<RowReader> open_tsv_rows(const std::filesystem::path& path);
std::unique_ptr<RowReader> open_text_rows(const std::filesystem::path& path, SampleBy sample_by);
std::unique_ptr<RowReader> open_parquet_rows(const std::filesystem::path& path);

}  // namespace qlora::data
