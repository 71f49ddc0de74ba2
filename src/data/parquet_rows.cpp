// The only file that names Arrow.
#include "data/byte_stream.h"
#include "data/row_error.h"
#include "data/row_reader.h"
#include "qlora/base/text_util.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
#include <parquet/properties.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace qlora::data {
namespace {

// Rows that are decoded at a time. Together with the page buffer it bounds memory, not the size of
// the file's row groups.
constexpr std::int64_t kBatchRows = 256;
constexpr std::int64_t kPageBufferBytes = 1 << 20;

Json value_at(const arrow::Array& array, std::int64_t i);

template <class Array>
Json scalar_at(const arrow::Array& array, std::int64_t i) {
  return static_cast<const Array&>(array).Value(i);
}

template <class Array>
Json text_at(const arrow::Array& array, std::int64_t i) {
  return std::string(static_cast<const Array&>(array).GetView(i));
}

template <class Array>
Json list_at(const arrow::Array& array, std::int64_t i) {
  const auto& list = static_cast<const Array&>(array);
  Json items = Json::array();
  for (std::int64_t k = list.value_offset(i); k < list.value_offset(i) + list.value_length(i);
       ++k) {
    items.push_back(value_at(*list.values(), k));
  }
  return items;
}

Json struct_at(const arrow::Array& array, std::int64_t i) {
  const auto& fields = static_cast<const arrow::StructArray&>(array);
  Json object = Json::object();
  for (int k = 0; k < fields.num_fields(); ++k) {
    object[fields.struct_type()->field(k)->name()] = value_at(*fields.field(k), i);
  }
  return object;
}

Json dictionary_at(const arrow::Array& array, std::int64_t i) {
  const auto& indices = static_cast<const arrow::DictionaryArray&>(array);
  return value_at(*indices.dictionary(), indices.GetValueIndex(i));
}

// Types without a JSON value of their own (times, decimals) come as the text that Arrow writes.
Json other_at(const arrow::Array& array, std::int64_t i) {
  const auto scalar = array.GetScalar(i);
  return scalar.ok() ? Json((*scalar)->ToString()) : Json(nullptr);
}

struct TypeRow {
  arrow::Type::type type;
  Json (*read)(const arrow::Array& array, std::int64_t i);
};

constexpr TypeRow kTypes[] = {
    {arrow::Type::STRING, text_at<arrow::StringArray>},
    {arrow::Type::LARGE_STRING, text_at<arrow::LargeStringArray>},
    {arrow::Type::STRING_VIEW, text_at<arrow::StringViewArray>},
    {arrow::Type::BINARY, text_at<arrow::BinaryArray>},
    {arrow::Type::LARGE_BINARY, text_at<arrow::LargeBinaryArray>},
    {arrow::Type::BOOL, scalar_at<arrow::BooleanArray>},
    {arrow::Type::INT8, scalar_at<arrow::Int8Array>},
    {arrow::Type::INT16, scalar_at<arrow::Int16Array>},
    {arrow::Type::INT32, scalar_at<arrow::Int32Array>},
    {arrow::Type::INT64, scalar_at<arrow::Int64Array>},
    {arrow::Type::UINT8, scalar_at<arrow::UInt8Array>},
    {arrow::Type::UINT16, scalar_at<arrow::UInt16Array>},
    {arrow::Type::UINT32, scalar_at<arrow::UInt32Array>},
    {arrow::Type::UINT64, scalar_at<arrow::UInt64Array>},
    {arrow::Type::FLOAT, scalar_at<arrow::FloatArray>},
    {arrow::Type::DOUBLE, scalar_at<arrow::DoubleArray>},
    {arrow::Type::LIST, list_at<arrow::ListArray>},
    {arrow::Type::LARGE_LIST, list_at<arrow::LargeListArray>},
    {arrow::Type::FIXED_SIZE_LIST, list_at<arrow::FixedSizeListArray>},
    {arrow::Type::STRUCT, struct_at},
    {arrow::Type::DICTIONARY, dictionary_at},
};

Json value_at(const arrow::Array& array, std::int64_t i) {
  if (array.IsNull(i)) return nullptr;
  for (const TypeRow& row : kTypes) {
    if (row.type == array.type_id()) return row.read(array, i);
  }
  return other_at(array, i);
}

// Arrow's strings are whatever bytes the writer put there.
bool is_utf8(const Json& value) {
  if (value.is_string()) {
    return find_invalid_utf8(value.get_ref<const std::string&>()) == std::string::npos;
  }
  return !value.is_structured() || std::all_of(value.begin(), value.end(), is_utf8);
}

class ParquetRows : public RowReader {
 public:
  explicit ParquetRows(const std::filesystem::path& path) : path_(path.string()), stamp_(path) {
    parquet::ReaderProperties file_properties;
    file_properties.enable_buffered_stream();
    file_properties.set_buffer_size(kPageBufferBytes);
    parquet::ArrowReaderProperties properties;
    properties.set_batch_size(kBatchRows);
    properties.set_pre_buffer(false);
    properties.set_use_threads(false);
    parquet::arrow::FileReaderBuilder builder;
    check(builder.OpenFile(path_, /*memory_map=*/false, file_properties));
    builder.properties(properties);
    file_ = take(builder.Build());
    if (file_->parquet_reader()->metadata()->num_rows() == 0) {
      fail("{}: the file has no rows", path_);
    }
    batches_ = take(file_->GetRecordBatchReader());
  }

  bool next(Row& row) override {
    while (!batch_ || in_batch_ == batch_->num_rows()) {
      check(batches_->ReadNext(&batch_));
      in_batch_ = 0;
      if (!batch_) {
        stamp_.expect_unchanged();
        return false;
      }
    }
    row.text.clear();
    row.line = ++rows_;
    row.columns = Json::object();
    for (int c = 0; c < batch_->num_columns(); ++c) {
      row.columns[batch_->column_name(c)] = value_at(*batch_->column(c), in_batch_);
    }
    ++in_batch_;
    return true;
  }

  Json parse(const Row& row) const override {
    for (const auto& [name, value] : row.columns.items()) {
      if (is_utf8(value)) continue;
      fail_row(RowFault::Encoding, "{}:{}: column '{}' is not valid UTF-8", path_, row.line, name);
    }
    return row.columns;
  }

 private:
  void check(const arrow::Status& status) const {
    if (status.ok()) return;
    std::string_view message = status.message();
    message = message.substr(0, message.find('\n'));
    fail("{}: not a readable Parquet file: {}", path_, message);
  }

  template <class T>
  T take(arrow::Result<T> result) const {
    check(result.status());
    return std::move(result).ValueUnsafe();
  }

  std::string path_;
  FileStamp stamp_;
  std::unique_ptr<parquet::arrow::FileReader> file_;
  std::shared_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;
  std::int64_t in_batch_ = 0;
  std::int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<RowReader> open_parquet_rows(const std::filesystem::path& path) {
  return std::make_unique<ParquetRows>(path);
}

}  // namespace qlora::data
