// Ids and streamed text of the sentencepiece and tokenizers packages (tests/data/tokenizers).

#include "qlora/base/json.h"
#include "qlora/text/stream_decoder.h"
#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

class Golden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto path = test::data_path("tokenizers/" + GetParam());
    QLORA_REQUIRE_DATA(path);
    tokenizer = load_tokenizer(path);
    const Json file = read_json(test::golden_path("tokenizers/tokenizers.json"));
    texts = file.at("texts");
    cases = file.at("encodings").at(GetParam());
    ASSERT_EQ(texts.size(), cases.size());
    ASSERT_GT(texts.size(), 20u);
  }
  // The sentencepiece package itself does not look for control pieces in the text.
  SpecialTokens special() const {
    const bool sentencepiece =
        GetParam() == "llama-2" || GetParam() == "mistral-v3" || GetParam() == "kobert";
    return sentencepiece ? SpecialTokens::plain : SpecialTokens::parse;
  }
  static std::vector<std::int32_t> ids(const Json& entry) {
    return entry.at("ids").get<std::vector<std::int32_t>>();
  }

  std::unique_ptr<Tokenizer> tokenizer;
  Json texts, cases;
};

TEST_P(Golden, Encodes) {
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    EXPECT_EQ(tokenizer->encode(text, special()), ids(cases[i])) << text;
  }
}

TEST_P(Golden, DecodesAtOnceAndAsAStream) {
  for (const Json& entry : cases) {
    const auto expected = entry.at("decoded").get<std::string>();
    // The sentencepiece package shows an unknown piece as this; here it is the piece's own name.
    if (expected.find("\u2047") != std::string::npos) continue;
    EXPECT_EQ(tokenizer->decode(ids(entry)), expected);
    StreamDecoder decoder(*tokenizer, false);
    std::vector<std::string> parts;
    for (const std::int32_t id : ids(entry)) parts.push_back(decoder.push(id));
    EXPECT_EQ(decoder.flush(), "");
    EXPECT_EQ(Json(parts), entry.at("streamed")) << expected;
  }
}

INSTANTIATE_TEST_SUITE_P(Real, Golden,
                         testing::Values("llama-2", "mistral-v3", "kobert", "qwen2", "smollm2",
                                         "gpt2", "exaone-3.5"),
                         [](const auto& tested) { return test_files::case_name(tested.param); });

}  // namespace
}  // namespace qlora::text
