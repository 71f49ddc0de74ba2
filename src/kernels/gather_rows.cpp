#include "qlora/kernels/gather_rows.h"

#include "qlora/base/parallel.h"
#include "rows.h"

#include <algorithm>

namespace qlora::kernels::cpu {
namespace {

// body(an element, r) for every row.
template <class Body>
void for_rows(DType dtype, const char* kernel, std::int64_t rows, std::int64_t cols,
              const Body& body) {
  with_element(dtype, kernel, [&](auto element) {
    parallel_for(rows, row_grain(cols), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) body(element, r);
    });
  });
}

}  // namespace

void gather_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                 std::int64_t cols, Rows out, Stream) {
  if (rows == 0 || cols == 0) return;
  check_rows(source, cols);
  check_rows(out, cols);
  for_rows(dtype, "gather_rows", rows, cols, [&](auto element, std::int64_t r) {
    using T = decltype(element);
    if (indices[r] < 0) {
      std::fill_n(row_of<T>(out, r), cols, T{});
    } else {
      std::copy_n(row_of<T>(source, indices[r]), cols, row_of<T>(out, r));
    }
  });
}

void scatter_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                  std::int64_t cols, Rows out, Stream) {
  if (rows == 0 || cols == 0) return;
  check_rows(source, cols);
  check_rows(out, cols);
  for_rows(dtype, "scatter_rows", rows, cols, [&](auto element, std::int64_t r) {
    using T = decltype(element);
    if (indices[r] < 0) return;
    std::copy_n(row_of<T>(source, r), cols, row_of<T>(out, indices[r]));
  });
}

}  // namespace qlora::kernels::cpu
