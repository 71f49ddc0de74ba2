#include "qlora/kernels/code_tables.h"

#include "kernels/sha256.h"
#include "kernels/support.h"
#include "qlora/kernels/dynamic_maps.h"

#include <bit>

namespace qlora::kernels {
namespace {

template <int N>
std::string hash(const Table<N>& table) {
  return test::sha256(std::as_bytes(std::span(table.values)));
}

TEST(CodeTables, Sha256OfKnownText) {
  const std::string text = "abc";
  EXPECT_EQ(test::sha256(std::as_bytes(std::span(text))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(CodeTables, DynamicMapsHaveThePublishedHashes) {
  EXPECT_EQ(hash(kSignedMap), "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
  EXPECT_EQ(hash(kUnsignedMap), "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398");
}

TEST(CodeTables, Nf4HasThePublishedBits) {
  const std::uint32_t bits[] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0,
                                0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
                                0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a,
                                0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(kNf4Codes[i]), bits[i]) << i;
  }
}

TEST(CodeTables, Nf4ThresholdsAreThoseOfTheCudaKernel) {
  const float published[] = {-0.8480963706970215f,   -0.6106328964233398f,  -0.4599952697753906f,
                             -0.33967941999435425f,  -0.23460739850997925f, -0.13791173696517944f,
                             -0.045525018125772476f, 0.03979014977812767f,  0.120255246758461f,
                             0.2035212516784668f,    0.2920137643814087f,   0.3893125355243683f,
                             0.5016634464263916f,    0.6427869200706482f,   0.8614784479141235f};
  for (int i = 0; i < 15; ++i) EXPECT_EQ(kNf4Thresholds[i], published[i]) << i;
}

TEST(CodeTables, Fp4HasThePublishedBitsAndASignedZero) {
  const std::uint32_t bits[] = {0x00000000, 0x3baaaaab, 0x3f2aaaab, 0x3f800000,
                                0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(kFp4Codes[i]), bits[i]) << i;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(kFp4Codes[8 + i]), bits[i] | 0x80000000u) << 8 + i;
  }
}

}  // namespace
}  // namespace qlora::kernels
