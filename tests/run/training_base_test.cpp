#include "qlora/run/training_base.h"

#include "qlora/base/file.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::run {
namespace {

using qlora::test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TrainingBase, ComesBackAsItWasWritten) {
  const auto folder = test::fresh_folder("training_base");
  auto config = test::four_bits(kernels::QuantType::FP4, true);
  config.llm_int8_skip_modules = {"lm_head", "down_proj"};
  write_training_base(training_base_of(config, DType::Float16), folder);
  const auto read = read_training_base(folder);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->activation_dtype, DType::Float16);
  const auto back = quantization_under(read, BaseWeights::Training);
  EXPECT_TRUE(back.load_in_4bit);
  EXPECT_TRUE(back.bnb_4bit_use_double_quant);
  EXPECT_EQ(back.bnb_4bit_quant_type, kernels::QuantType::FP4);
  EXPECT_EQ(back.bnb_4bit_compute_dtype, DType::Float16);  // followed the activations
  EXPECT_THAT(back.llm_int8_skip_modules, ElementsAre("lm_head", "down_proj"));
  EXPECT_FALSE(quantization_under(read, BaseWeights::Original).load_in_4bit);
}

TEST(TrainingBase, NothingSkippedStaysNothingSkipped) {
  const auto folder = test::fresh_folder("training_base_skip");
  auto config = test::four_bits(kernels::QuantType::NF4, false);
  config.llm_int8_skip_modules = {};
  config.bnb_4bit_compute_dtype = DType::BFloat16;
  write_training_base(training_base_of(config, DType::Float32), folder);
  const auto back = quantization_under(read_training_base(folder), BaseWeights::Training);
  EXPECT_TRUE(back.llm_int8_skip_modules.empty());
  EXPECT_EQ(back.bnb_4bit_compute_dtype, DType::BFloat16);
}

TEST(TrainingBase, DenseOrUnknownIsNotQuantized) {
  const auto folder = test::fresh_folder("training_base_dense");
  EXPECT_FALSE(read_training_base(folder));
  EXPECT_FALSE(quantization_under(std::nullopt, BaseWeights::Training).load_in_4bit);
  write_training_base(training_base_of({}, DType::BFloat16), folder);
  const auto read = read_training_base(folder);
  ASSERT_TRUE(read);
  EXPECT_FALSE(read->quantization);
  EXPECT_FALSE(quantization_under(read, BaseWeights::Training).load_in_4bit);
}

TEST(TrainingBase, BrokenFileIsNamed) {
  const auto folder = test::fresh_folder("training_base_broken");
  const auto error = [&](const char* text) {
    write_text(folder / "training_base.json", text);
    return message_of([&] { read_training_base(folder); });
  };
  EXPECT_THAT(error("{"), HasSubstr("training_base.json"));
  EXPECT_THAT(error("{}"), HasSubstr("activation_dtype"));
  EXPECT_THAT(error(R"({"activation_dtype": "int8"})"), HasSubstr("expected float32"));
  EXPECT_THAT(error(R"({"quantization_config": {"quant_method": "gptq"}})"), HasSubstr("gptq"));
}

}  // namespace
}  // namespace qlora::run
