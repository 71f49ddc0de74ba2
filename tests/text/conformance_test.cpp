// The real tokenizers against llama.cpp's 47 hard texts and the EXAONE goldens.

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/text/tokenizer.h"
#include "text/test_files.h"

#include <gtest/gtest.h>

#include <sstream>

namespace qlora::text {
namespace {

using Ids = std::vector<std::int32_t>;

std::vector<std::string> split(const std::string& all, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  for (std::size_t at; (at = all.find(separator, from)) != std::string::npos;) {
    parts.push_back(all.substr(from, at - from));
    from = at + separator.size();
  }
  parts.push_back(all.substr(from));
  return parts;
}

// One line a text; llama.cpp's files leave out the line of the last text, which is empty.
std::vector<Ids> read_ids(const std::filesystem::path& path, std::size_t count) {
  std::vector<Ids> all;
  std::istringstream lines(read_text(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    Ids ids;
    for (std::int32_t id; numbers >> id;) ids.push_back(id);
    all.push_back(ids);
  }
  if (all.size() + 1 == count) all.emplace_back();
  return all;
}

struct Pair {
  const char* tokenizer;
  const char* texts;
  const char* ids;
  std::size_t count;
};

class Conformance : public testing::TestWithParam<Pair> {};

TEST_P(Conformance, EveryTextGivesTheExpectedIds) {
  const Pair& pair = GetParam();
  const auto path = test::data_path(std::string("tokenizers/") + pair.tokenizer);
  QLORA_REQUIRE_DATA(path);
  const auto tokenizer = load_tokenizer(path);
  const auto texts = split(read_text(test::data_path(pair.texts)), "\n__ggml_vocab_test__\n");
  const auto expected = read_ids(test::data_path(pair.ids), pair.count);
  ASSERT_EQ(texts.size(), pair.count);
  ASSERT_EQ(expected.size(), pair.count);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(tokenizer->encode(texts[i]), expected[i]) << "text " << i << ": " << texts[i];
    EXPECT_EQ(tokenizer->encode(texts[i], SpecialTokens::plain), expected[i]) << "text " << i;
  }
}

constexpr const char* kTexts = "conformance/all.inp";
constexpr Pair kPairs[] = {
    {"gpt2", kTexts, "conformance/gpt-2.out", 47},
    {"qwen2", kTexts, "conformance/qwen2.out", 47},
    {"smollm2", kTexts, "conformance/smollm.out", 47},
    {"llama-3", kTexts, "conformance/llama-bpe.out", 47},
    {"llama-2", kTexts, "conformance/llama-spm.out", 47},
    {"exaone-3.5", "tokenizers/exaone-3.5/exaone35.inp", "tokenizers/exaone-3.5/exaone35.out", 47},
};
INSTANTIATE_TEST_SUITE_P(Real, Conformance, testing::ValuesIn(kPairs), [](const auto& tested) {
  return test_files::case_name(tested.param.tokenizer);
});

class Exaone : public testing::Test {
 protected:
  void SetUp() override {
    const auto folder = test::data_path("tokenizers/exaone-3.5");
    QLORA_REQUIRE_DATA(folder);
    tokenizer = load_tokenizer(folder);
    golden = read_json(folder / "exaone35_golden.json");
  }
  static Ids ids(const Json& entry) { return entry.at("ids").get<Ids>(); }

  std::unique_ptr<Tokenizer> tokenizer;
  Json golden;
};

TEST_F(Exaone, ChatTextsGiveTheGoldenIds) {
  ASSERT_FALSE(golden.at("chat").empty());
  for (const Json& chat : golden.at("chat")) {
    EXPECT_EQ(tokenizer->encode(chat.at("text").get<std::string>()), ids(chat));
  }
}

TEST_F(Exaone, TextsGiveTheGoldenIds) {
  ASSERT_FALSE(golden.at("texts").empty());
  for (const Json& entry : golden.at("texts")) {
    const auto text = entry.at("text").get<std::string>();
    EXPECT_EQ(tokenizer->encode(text), ids(entry)) << text;
  }
}

TEST_F(Exaone, SettingsComeFromTheFilesBesideIt) {
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 361);
  EXPECT_EQ(tokenizer->pad(), 0);
  EXPECT_EQ(tokenizer->eos_token(), "[|endofturn|]");
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_TRUE(tokenizer->chat_template().starts_with("{% for message in messages %}"));
  EXPECT_EQ(tokenizer->vocab_size(), 102400);
}

}  // namespace
}  // namespace qlora::text
