// Real vocabularies put into a GGUF must encode as the files they come from.

#include "text/gguf_writer.h"
#include "text/sentencepiece_proto.h"
#include "text/test_files.h"
#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

using Ids = std::vector<std::int32_t>;
using test_files::GgufWriter;

const char* const kTemplate = "{{ messages }}";

// tokenizer.json -> the keys that llama.cpp's converter writes.
GgufWriter bpe_gguf(const std::filesystem::path& folder, const char* pre) {
  const auto path = folder / "tokenizer.json";
  const TokenizerFile file = parse_tokenizer_file(read_text(path), path.string());
  std::vector<std::string> tokens, merges;
  std::vector<std::int32_t> types;
  const auto place = [&](const std::string& text, std::int32_t id, std::int32_t type) {
    if (tokens.size() <= static_cast<std::size_t>(id)) {
      tokens.resize(id + 1);
      types.resize(id + 1, 5);
    }
    tokens[id] = text;
    types[id] = type;
  };
  for (const auto& [text, id] : file.vocabulary) place(text, id, 1);
  for (const Json& token : file.rest.at("added_tokens")) {
    place(token.at("content"), token.at("id"), token.at("special").get<bool>() ? 3 : 4);
  }
  for (const Json& merge : file.rest.at("model").at("merges")) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  GgufWriter gguf;
  gguf.add("tokenizer.ggml.model", "gpt2");
  gguf.add("tokenizer.ggml.pre", pre);
  gguf.add("tokenizer.ggml.tokens", tokens);
  gguf.add("tokenizer.ggml.token_type", types);
  gguf.add("tokenizer.ggml.merges", merges);
  gguf.add("tokenizer.chat_template", kTemplate);
  return gguf;
}

std::vector<std::string> hard_texts() {
  const Json golden = read_json(test::golden_path("tokenizers/tokenizers.json"));
  auto texts = golden.at("texts").get<std::vector<std::string>>();
  texts.push_back(read_text(test::data_path("conformance/all.inp")));
  texts.push_back("<|im_start|>user\nHi<|im_end|>\n[|endofturn|]");
  return texts;
}

void expect_same(const Tokenizer& got, const Tokenizer& expected) {
  for (const std::string& text : hard_texts()) {
    EXPECT_EQ(got.encode(text), expected.encode(text)) << text;
    EXPECT_EQ(got.encode(text, SpecialTokens::plain), expected.encode(text, SpecialTokens::plain));
  }
}

TEST(GgufTokenizer, ByteLevelVocabulariesEncodeAsTheirFamilysFile) {
  const std::pair<const char*, const char*> cases[] = {
      {"smollm2", "smollm"}, {"gpt2", "gpt-2"}, {"qwen2", "qwen2"}, {"exaone-3.5", "exaone"}};
  for (const auto& [name, pre] : cases) {
    const auto folder = test::data_path(std::string("tokenizers/") + name);
    QLORA_REQUIRE_DATA(folder);
    const auto target = test::fresh_folder("gguf_bpe");
    bpe_gguf(folder, pre).save(target / "model.gguf");
    const auto expected = load_tokenizer(folder);
    expect_same(*load_tokenizer(target / "model.gguf"), *expected);

    // What save_tokenizer writes for it is the same tokenizer again.
    const auto saved = test::fresh_folder("gguf_saved");
    save_tokenizer(target / "model.gguf", saved);
    expect_same(*load_tokenizer(saved), *expected);
  }
}

TEST(GgufTokenizer, SettingsComeFromItsKeysAndAreSaved) {
  const auto folder = test::data_path("tokenizers/smollm2");
  QLORA_REQUIRE_DATA(folder);
  GgufWriter gguf = bpe_gguf(folder, "smollm");
  gguf.add("tokenizer.ggml.bos_token_id", std::uint32_t{1});
  gguf.add("tokenizer.ggml.eos_token_id", std::uint32_t{2});
  gguf.add("tokenizer.ggml.padding_token_id", std::uint32_t{4'000'000'000});  // no such token
  gguf.add("tokenizer.ggml.eot_token_id", std::uint32_t{0});
  gguf.add("tokenizer.ggml.add_bos_token", true);
  const auto target = test::fresh_folder("gguf_settings");
  gguf.save(target / "model.gguf");
  save_tokenizer(target / "model.gguf", target);
  for (const auto& path : {target / "model.gguf", target}) {
    const auto tokenizer = load_tokenizer(path);
    EXPECT_EQ(tokenizer->bos(), 1);
    EXPECT_EQ(tokenizer->eos(), 2);
    EXPECT_FALSE(tokenizer->pad());
    EXPECT_EQ(tokenizer->bos_token(), "<|im_start|>");
    EXPECT_EQ(tokenizer->eos_token(), "<|im_end|>");
    EXPECT_TRUE(tokenizer->add_bos());
    EXPECT_EQ(tokenizer->chat_template(), kTemplate);
  }
  EXPECT_EQ(load_tokenizer(target / "model.gguf")->stop_ids(), (Ids{2, 0}));
}

TEST(GgufTokenizer, SentencepieceVocabulariesEncodeAsTheirModel) {
  const auto folder = test::data_path("tokenizers/llama-2");
  QLORA_REQUIRE_DATA(folder);
  const auto model = parse_sentencepiece(read_text(folder / "tokenizer.model"), "llama-2");
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const Piece& piece : model.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<std::int32_t>(piece.type));
  }
  GgufWriter gguf;
  gguf.add("tokenizer.ggml.model", "llama");
  gguf.add("tokenizer.ggml.tokens", tokens);
  gguf.add("tokenizer.ggml.scores", scores);
  gguf.add("tokenizer.ggml.token_type", types);
  gguf.add("tokenizer.ggml.bos_token_id", std::uint32_t{1});
  const auto target = test::fresh_folder("gguf_spm");
  gguf.save(target / "model.gguf");
  const auto expected = load_tokenizer(folder);
  const auto opened = load_tokenizer(target / "model.gguf");
  expect_same(*opened, *expected);
  EXPECT_TRUE(opened->add_bos());
  save_tokenizer(target / "model.gguf", target);
  expect_same(*load_tokenizer(target), *expected);
}

TEST(GgufTokenizer, UnknownNamesAreRefusedByName) {
  const auto folder = test::fresh_folder("gguf_unknown");
  const auto error = [&](const char* model, const char* pre) {
    GgufWriter gguf;
    gguf.add("tokenizer.ggml.model", model);
    gguf.add("tokenizer.ggml.pre", pre);
    gguf.add("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
    gguf.add("tokenizer.ggml.token_type", std::vector<std::int32_t>{1});
    gguf.add("tokenizer.ggml.merges", std::vector<std::string>{});
    gguf.save(folder / "model.gguf");
    return test::message_of([&] { load_tokenizer(folder / "model.gguf"); });
  };
  EXPECT_NE(error("bert", "gpt-2").find("'bert'"), std::string::npos);
  EXPECT_NE(error("gpt2", "tekken").find("'tekken'"), std::string::npos);
  EXPECT_EQ(error("gpt2", "gpt-2"), "");
}

TEST(GgufTokenizer, TheQuickstartsModelOpens) {
  const auto path = test::source_path("models/SmolLM2-135M-Instruct.Q4_1.gguf");
  QLORA_REQUIRE_DATA(path);
  const auto expected_folder = test::data_path("tokenizers/smollm2");
  QLORA_REQUIRE_DATA(expected_folder);
  const auto tokenizer = load_tokenizer(path);
  expect_same(*tokenizer, *load_tokenizer(expected_folder));
  EXPECT_EQ(tokenizer->eos_token(), "<|im_end|>");
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_NE(tokenizer->chat_template().find("<|im_start|>"), std::string::npos);
}

}  // namespace
}  // namespace qlora::text
