#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using test::message_of;

// A folder with a small tokenizer.json whose added tokens are <s> 256, </s> 257, <e> 258.
fs::path small_model(const std::string& name) {
  Json file = test_files::byte_level_file({});
  for (const auto& [id, text] : {std::pair{256, "<s>"}, {257, "</s>"}, {258, "<e>"}}) {
    file["added_tokens"].push_back({{"id", id}, {"content", text}, {"special", true}});
  }
  const fs::path folder = test::fresh_folder(name);
  write_text(folder / "tokenizer.json", file.dump());
  return folder;
}

TEST(Load, SettingsFilesInTheirOrder) {
  const fs::path folder = small_model("load_settings");
  write_text(folder / "special_tokens_map.json",
             R"({"bos_token": "<e>", "eos_token": {"content": "</s>"}})");
  write_text(folder / "generation_config.json",
             R"({"eos_token_id": [258, 257], "pad_token_id": 3})");
  write_text(folder / "tokenizer_config.json",
             R"({"bos_token": "<s>", "add_bos_token": true, "chat_template": "inline"})");
  const auto tokenizer = load_tokenizer(folder);
  EXPECT_EQ(tokenizer->bos(), 256);
  EXPECT_EQ(tokenizer->bos_token(), "<s>");
  EXPECT_EQ(tokenizer->eos(), 257);
  EXPECT_EQ(tokenizer->pad(), 3);
  EXPECT_EQ(tokenizer->stop_ids(), (Ids{258, 257}));
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->chat_template(), "inline");
  write_text(folder / "chat_template.jinja", "beside");
  EXPECT_EQ(load_tokenizer(folder)->chat_template(), "beside");
}

TEST(Load, WithoutSettingsFilesThereAreNone) {
  const auto tokenizer = load_tokenizer(small_model("load_bare") / "tokenizer.json");
  EXPECT_FALSE(tokenizer->bos() || tokenizer->eos() || tokenizer->pad());
  EXPECT_TRUE(tokenizer->stop_ids().empty());
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->chat_template(), "");
}

TEST(Load, ATemplateOfTheListIsChosenByName) {
  const fs::path folder = small_model("load_templates");
  const fs::path config = folder / "tokenizer_config.json";
  write_text(config, R"({"chat_template": [{"name": "rag", "template": "r"},
                                           {"name": "default", "template": "d"}]})");
  EXPECT_EQ(load_tokenizer(folder)->chat_template(), "d");
  write_text(config, R"({"chat_template": [{"name": "rag", "template": "r"},
                                           {"name": "tools", "template": "t"}]})");
  EXPECT_THROW(load_tokenizer(folder), Error);
}

TEST(Load, ConfigReplacesAndAddsTokens) {
  const fs::path folder = small_model("load_decoder");
  write_text(folder / "tokenizer_config.json",
             R"({"added_tokens_decoder": {"258": {"content": "<end>", "special": true},
                                          "259": {"content": "<more>", "special": false}}})");
  const auto tokenizer = load_tokenizer(folder);
  EXPECT_EQ(tokenizer->encode("<end><more>"), (Ids{258, 259}));
  EXPECT_FALSE(tokenizer->is_special(259));
  EXPECT_EQ(tokenizer->vocab_size(), 260);
}

TEST(Load, APostProcessorsTokenIsBos) {
  const fs::path folder = small_model("load_template_processing");
  Json file = read_json(folder / "tokenizer.json");
  file["post_processor"] = Json::parse(
      R"({"type": "TemplateProcessing",
          "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}}],
          "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}})");
  write_text(folder / "tokenizer.json", file.dump());
  const auto tokenizer = load_tokenizer(folder);
  EXPECT_EQ(tokenizer->bos(), 256);
  EXPECT_TRUE(tokenizer->add_bos());
}

TEST(Load, RealSettings) {
  QLORA_REQUIRE_DATA(test::data_path("tokenizers/smollm2"));
  const auto smollm = load_tokenizer(test::data_path("tokenizers/smollm2"));
  EXPECT_EQ(smollm->bos(), 1);
  EXPECT_EQ(smollm->eos(), 2);
  EXPECT_EQ(smollm->pad(), 2);
  EXPECT_FALSE(smollm->add_bos());
  EXPECT_FALSE(smollm->chat_template().empty());
  const auto qwen = load_tokenizer(test::data_path("tokenizers/qwen2"));
  EXPECT_FALSE(qwen->bos());
  EXPECT_EQ(qwen->eos(), 151645);
  EXPECT_EQ(qwen->pad(), 151643);
  const auto llama3 = load_tokenizer(test::data_path("tokenizers/llama-3"));
  EXPECT_EQ(llama3->bos(), 128000);
  EXPECT_TRUE(llama3->add_bos());
  EXPECT_EQ(llama3->stop_ids(), (Ids{128001, 128009}));
  EXPECT_EQ(llama3->vocab_size(), 128256);
  EXPECT_EQ(llama3->token_id("<|reserved_special_token_250|>"), 128255);
  EXPECT_EQ(llama3->token_id("<|reserved_special_token_4|>"), 128008);
  const auto llama2 = load_tokenizer(test::data_path("tokenizers/llama-2/tokenizer.model"));
  EXPECT_EQ(llama2->bos(), 1);
  EXPECT_EQ(llama2->eos(), 2);
  EXPECT_TRUE(llama2->add_bos());
  EXPECT_EQ(llama2->bos_token(), "<s>");
}

TEST(Load, LegacySentencepiecePutsASpaceAfterEachSpecialToken) {
  const auto source = test::data_path("tokenizers/llama-2/tokenizer.model");
  QLORA_REQUIRE_DATA(source);
  const fs::path folder = test::fresh_folder("load_legacy");
  fs::copy(source, folder / "tokenizer.model");
  // 15043 is "\u2581Hello", 10994 is "Hello".
  EXPECT_EQ(load_tokenizer(folder)->encode("Hello</s>Hello"), (Ids{15043, 2, 15043}));
  write_text(folder / "tokenizer_config.json", R"({"legacy": false})");
  const auto tokenizer = load_tokenizer(folder);
  EXPECT_EQ(tokenizer->encode("Hello</s>Hello"), (Ids{15043, 2, 10994}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("Hello</s> Hello")), "Hello</s> Hello");
}

TEST(Load, AnUnsupportedJsonGivesWayToTheModelFileBesideIt) {
  const auto source = test::data_path("tokenizers/llama-2/tokenizer.model");
  QLORA_REQUIRE_DATA(source);
  const fs::path folder = test::fresh_folder("load_unigram");
  write_text(folder / "tokenizer.json",
             R"({"model": {"type": "Unigram", "vocab": [["a", -1.5]]}})");
  EXPECT_NE(message_of([&] { load_tokenizer(folder); }).find("Unigram"), std::string::npos);
  fs::copy(source, folder / "tokenizer.model");
  EXPECT_EQ(load_tokenizer(folder)->vocab_size(), 32000);
}

TEST(Load, WhatIsMissingIsNamed) {
  const fs::path folder = test::fresh_folder("load_missing");
  EXPECT_NE(message_of([&] { load_tokenizer(folder); }).find("no tokenizer in it"),
            std::string::npos);
  EXPECT_NE(message_of([&] { load_tokenizer(folder / "nowhere"); }).find("no such file"),
            std::string::npos);
}

TEST(Save, CopiesTheFilesOfADirectory) {
  const fs::path source = small_model("save_source");
  write_text(source / "tokenizer_config.json", R"({"eos_token": "</s>"})");
  write_text(source / "chat_template.jinja", "beside");
  write_text(source / "model.safetensors", "weights are not a tokenizer's business");
  const fs::path target = test::fresh_folder("save_target");
  save_tokenizer(source, target);
  const auto tokenizer = load_tokenizer(target);
  EXPECT_EQ(tokenizer->eos(), 257);
  EXPECT_EQ(tokenizer->chat_template(), "beside");
  EXPECT_FALSE(fs::exists(target / "model.safetensors"));
  save_tokenizer(target, target);  // onto itself: nothing happens
  EXPECT_EQ(load_tokenizer(target)->eos(), 257);
  EXPECT_THROW(save_tokenizer(source, target / "absent"), Error);
}

TEST(Save, AModelFileOfAnyNameBecomesTokenizerModel) {
  const auto source = test::data_path("tokenizers/llama-2/tokenizer.model");
  QLORA_REQUIRE_DATA(source);
  const fs::path folder = test::fresh_folder("save_name");
  fs::copy(source, folder / "own_name.model");
  const fs::path target = test::fresh_folder("save_name_target");
  save_tokenizer(folder / "own_name.model", target);
  EXPECT_EQ(load_tokenizer(target)->vocab_size(), 32000);
}

}  // namespace
}  // namespace qlora::text
