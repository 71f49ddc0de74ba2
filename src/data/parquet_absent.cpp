#include "data/row_reader.h"

namespace qlora::data {

std::unique_ptr<RowReader> open_parquet_rows(const std::filesystem::path& path) {
  fail("{}: this program was built without Parquet (QLORA_PARQUET=OFF)", path.string());
}

}  // namespace qlora::data
