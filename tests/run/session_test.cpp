#include "qlora/run/session.h"

#include "qlora/base/file.h"
#include "qlora/models/adapters.h"
#include "qlora/text/chat_template.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::run {
namespace {

namespace fs = std::filesystem;
using qlora::test::data_path;
using qlora::test::message_of;
using ::testing::Contains;
using ::testing::HasSubstr;

TEST(UnpackWeights, ChangesNoValue) {
  const auto model =
      test::load(test::tiny("llama3"), test::four_bits(kernels::QuantType::NF4, true));
  models::attach_lora(*model, models::to_adapter_config(test::random_lora(), ""), DType::Float32,
                      /*seed=*/5);
  const at::Tensor packed = test::logits_of(*model);
  unpack_weights(*model, DType::Float32);
  int adapters = 0;
  const auto check = [&](const std::string& path, nn::Linear& linear) {
    EXPECT_FALSE(linear.quantized()) << path;
    adapters += linear.adapter() ? 1 : 0;
  };
  model->visit({.linear = check, .embedding = {}, .norm = {}});
  EXPECT_EQ(adapters, 14);
  EXPECT_TRUE(at::equal(test::logits_of(*model), packed));
}

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = data_path("models/stories260K");
    QLORA_REQUIRE_DATA(model_);
  }
  fs::path model_;
};

TEST_F(SessionTest, PutsTheAdapterOnTheBaseOfItsTraining) {
  const fs::path adapter = test::fresh_folder("session_adapter") / "adapter";
  test::make_adapter(model_, test::random_lora(), adapter);
  write_text(adapter / text::kChatTemplateFile, "own template");
  const auto quantization = test::four_bits(kernels::QuantType::NF4, true);
  write_training_base(training_base_of(quantization, DType::BFloat16), adapter);
  const auto logits_with = [&](const tensor::QuantizationConfig& config) {
    const auto model = test::load(model_, config);
    models::load_adapter(*model, adapter);
    return test::logits_of(*model);
  };
  SessionOptions options{.model = model_, .adapter = adapter, .device = "cpu"};
  const Session session = open_session(options);
  auto computed_in_float32 = quantization;
  computed_in_float32.bnb_4bit_compute_dtype = DType::Float32;
  EXPECT_TRUE(at::equal(test::logits_of(*session.model), logits_with(computed_in_float32)));
  EXPECT_THAT(session.stop_ids, Contains(2));
  EXPECT_EQ(session.chat_template, "own template");

  options.base_weights = BaseWeights::Original;
  EXPECT_TRUE(at::equal(test::logits_of(*open_session(options).model), logits_with({})));
}

TEST_F(SessionTest, SaysWhatIsWrong) {
  const fs::path folder = test::fresh_folder("session_refusals");
  const auto error = [](SessionOptions options) {
    options.device = "cpu";
    const std::string message = message_of([&] { open_session(options); });
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message;
  };
  EXPECT_THAT(error({.model = folder / "nothing"}), HasSubstr("no such model directory"));
  EXPECT_THAT(error({.model = folder}), HasSubstr("config.json is missing"));
  EXPECT_THAT(error({.model = test::tiny("llama2")}), HasSubstr("no tokenizer in it"));
  EXPECT_THAT(error({.model = model_, .adapter = folder}), HasSubstr("adapter_config.json"));
  test::make_adapter(test::tiny("llama2"), test::random_lora(), folder / "adapter");
  EXPECT_THAT(error({.model = model_, .adapter = folder / "adapter"}), HasSubstr("has shape"));
}

}  // namespace
}  // namespace qlora::run
