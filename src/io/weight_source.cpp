#include "qlora/io/weight_source.h"

#include "io/weight_readers.h"
#include "qlora/base/error.h"
#include "qlora/base/text_util.h"
#include "qlora/io/gguf.h"
#include "qlora/io/tensor_view.h"

namespace qlora::io {
namespace fs = std::filesystem;

void fail_missing(std::string_view name, const std::vector<std::string>& names,
                  std::string_view where) {
  // A nearest name by edit distance is quadratic; a checkpoint's thousands are still instant.
  const std::string near = nearest_name(name, names);
  fail("{}: tensor '{}' is missing{}", where, name,
       near.empty() ? std::string() : fmt::format("; the nearest name is '{}'", near));
}

RowRun check_read(const WeightInfo& info, std::string_view name, const StoredElements& stored,
                  DType out, RowRange rows) {
  RowRun run;
  const std::int64_t total_rows = info.shape.empty() ? 1 : info.shape.front();
  const std::int64_t end = rows.end == -1 ? total_rows : rows.end;
  for (std::size_t i = 1; i < info.shape.size(); ++i) run.row_elements *= info.shape[i];
  if (rows.begin < 0 || rows.begin > end || end > total_rows) {
    fail("{}: tensor '{}' has {} rows; rows [{}, {}) were asked for", info.file.string(), name,
         total_rows, rows.begin, end);
  }
  run.begin = rows.begin;
  run.count = end - rows.begin;
  if (!can_convert(stored, out)) {
    fail("{}: tensor '{}' is {}; it cannot be read as {}", info.file.string(), name, info.stored_as,
         name_of(out));
  }
  if (run.begin * run.row_elements % stored.block_elements != 0 ||
      run.count * run.row_elements % stored.block_elements != 0) {
    fail("{}: tensor '{}' is {}; rows [{}, {}) cut through its blocks of {}", info.file.string(),
         name, info.stored_as, run.begin, end, stored.block_elements);
  }
  return run;
}

void expect_shape(const WeightSource& source, std::string_view name,
                  const std::vector<std::int64_t>& expected) {
  const WeightInfo& info = source.info(name);
  if (info.shape != expected) {
    fail("{}: tensor '{}' has the shape {}; the configuration expects {}", info.file.string(), name,
         shape_text(info.shape), shape_text(expected));
  }
}

std::unique_ptr<WeightSource> open_weights(const fs::path& path) {
  if (!fs::is_regular_file(path)) return open_hf_weights(path);
  if (!is_gguf(path)) fail("{}: neither a GGUF file nor a model directory", path.string());
  return open_gguf_weights(path);
}

}  // namespace qlora::io
