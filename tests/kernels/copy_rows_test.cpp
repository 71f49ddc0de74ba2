#include "qlora/kernels/copy_rows.h"

#include "kernels/gpu_support.h"

namespace qlora::kernels {
namespace {

// 5 rows of 48 bytes, wider in both matrices; `to` holds 7 everywhere.
constexpr std::int64_t kRows = 5;
constexpr RowCopy kShape{.from_stride = 64, .to_stride = 80, .bytes = 48};

std::vector<std::byte> source() {
  std::vector<std::byte> bytes(kRows * kShape.from_stride);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(100 + i % 150);
  return bytes;
}

std::vector<std::byte> expected(std::int32_t rows) {
  std::vector<std::byte> bytes(kRows * kShape.to_stride, std::byte{7});
  const auto from = source();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < kShape.bytes; ++i) {
      bytes[row * kShape.to_stride + i] = from[row * kShape.from_stride + i];
    }
  }
  return bytes;
}

TEST(CopyRows, CopiesTheFirstRowsAlone) {
  for (const std::int32_t rows : {0, 1, 3, 5}) {
    auto from = source();
    auto to = expected(0);
    RowCopy copy = kShape;
    copy.from = from.data();
    copy.to = to.data();
    cpu::copy_rows(copy, &rows, kRows, nullptr);
    EXPECT_EQ(to, expected(rows)) << rows;
  }
}

class GpuCopyRows : public test::GpuTest {};

TEST_F(GpuCopyRows, CopiesTheFirstRowsAlone) {
  for (const std::int32_t rows : {0, 1, 3, 5}) {
    test::OnDevice from(source()), to(expected(0)), count(std::vector<std::int32_t>{rows});
    RowCopy copy = kShape;
    copy.from = from.data();
    copy.to = to.data();
    cuda::copy_rows(copy, count.data<std::int32_t>(), kRows, nullptr);
    test::expect_same(to, expected(rows), fmt::format("{} rows", rows));
  }
}

TEST_F(GpuCopyRows, CopiesRowsOfManyBlocks) {
  std::vector<std::uint32_t> values(3 * 4096);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint32_t>(i * 97);
  test::OnDevice from(values), to(std::vector<std::uint32_t>(values.size()));
  test::OnDevice count(std::vector<std::int32_t>{3});
  cuda::copy_rows({from.data(), 4 * 4096, to.data(), 4 * 4096, 4 * 4096},
                  count.data<std::int32_t>(), 3, nullptr);
  test::expect_same(to, values, "3 rows of 16 KiB");
}

}  // namespace
}  // namespace qlora::kernels
