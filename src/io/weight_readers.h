#pragma once
// The two kinds of WeightSource, and what they share.

#include "io/convert.h"
#include "qlora/io/weight_source.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::io {

std::unique_ptr<WeightSource> open_hf_weights(const std::filesystem::path& directory);
std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& file);

// The rows of one tensor that a read asks for.
struct RowRun {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t row_elements = 1;
};

// Checks `rows` and the conversion against the tensor; throws Error.
RowRun check_read(const WeightInfo& info, std::string_view name, const StoredElements& stored,
                  DType out, RowRange rows);

// Throws Error: `name` is not among `names`; `where` is the file or directory.
[[noreturn]] void fail_missing(std::string_view name, const std::vector<std::string>& names,
                               std::string_view where);

}  // namespace qlora::io
