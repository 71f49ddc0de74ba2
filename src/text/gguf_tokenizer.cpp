#include "text/gguf_tokenizer.h"

#include "qlora/base/narrow.h"
#include "qlora/base/text_util.h"
#include "text/bpe_tokenizer.h"
#include "text/pre_tokenizer_table.h"
#include "text/sentencepiece_proto.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tokenizer_json.h"

#include <algorithm>

namespace qlora::text {
namespace {

struct GgufTokens {
  std::vector<std::string> texts;
  std::vector<PieceType> types;
};

GgufTokens read_tokens(const io::GgufFile& gguf) {
  const std::string where = gguf.path().string();
  GgufTokens out{gguf.strings("tokenizer.ggml.tokens"), {}};
  for (const std::string& text : out.texts) {
    if (find_invalid_utf8(text) != std::string::npos) {
      fail("{}: a token in tokenizer.ggml.tokens is not UTF-8", where);
    }
  }
  const std::vector<std::int64_t> types = gguf.integers("tokenizer.ggml.token_type");
  if (types.size() != out.texts.size()) {
    fail("{}: {} tokens but {} token types", where, out.texts.size(), types.size());
  }
  for (const std::int64_t type : types) {
    if (type < 1 || type > 6) fail("{}: the token type {} is not known", where, type);
    out.types.push_back(static_cast<PieceType>(type));
  }
  return out;
}

bool wants_bos(const io::GgufFile& gguf) {
  const auto said = gguf.find_boolean("tokenizer.ggml.add_bos_token");
  if (said) return *said;
  const auto pre = gguf.find_string("tokenizer.ggml.pre").value_or("");
  return gguf.string("tokenizer.ggml.model") == "llama" || pre == "llama-bpe" || pre == "llama3" ||
         pre == "llama-v3";
}

TokenizerSettings gguf_settings(const io::GgufFile& gguf, const Tokenizer& tokenizer) {
  const auto id = [&](const char* key) -> std::optional<std::int32_t> {
    const auto value = gguf.find_integer(fmt::format("tokenizer.ggml.{}_token_id", key));
    if (!value || *value < 0 || *value >= tokenizer.vocab_size()) return std::nullopt;
    return static_cast<std::int32_t>(*value);
  };
  const auto text = [&](std::optional<std::int32_t> token) {
    return token ? tokenizer.token_bytes(*token) : std::string();
  };
  TokenizerSettings out;
  out.bos = id("bos");
  out.eos = id("eos");
  out.pad = id("padding");
  for (const char* key : {"eos", "eot", "eom"}) {
    const auto stop = id(key);
    if (stop && std::find(out.stop_ids.begin(), out.stop_ids.end(), *stop) == out.stop_ids.end()) {
      out.stop_ids.push_back(*stop);
    }
  }
  out.bos_token = text(out.bos);
  out.eos_token = text(out.eos);
  out.pad_token = text(out.pad);
  out.add_bos = out.bos && wants_bos(gguf);
  out.chat_template = gguf.find_string("tokenizer.chat_template").value_or("");
  return out;
}

Json bos_processor(const std::string& bos, std::int64_t id) {
  const Json token = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const auto text = [](const char* name, int type) {
    return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({token, text("A", 0)})},
          {"pair", Json::array({token, text("A", 0), token, text("B", 1)})},
          {"special_tokens",
           {{bos, {{"id", bos}, {"ids", Json::array({id})}, {"tokens", Json::array({bos})}}}}}};
}

Json added_token(const std::string& content, std::size_t id, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

// The vocabulary and merges as a tokenizer.json says them.
TokenizerFile gguf_tokenizer_file(const io::GgufFile& gguf) {
  const std::string where = gguf.path().string();
  const GgufTokens tokens = read_tokens(gguf);
  const NamedPreTokenizer pre =
      named_pre_tokenizer(gguf.find_string("tokenizer.ggml.pre").value_or("default"), where);
  TokenizerFile file;
  Json added = Json::array();
  for (std::size_t id = 0; id < tokens.texts.size(); ++id) {
    const PieceType type = tokens.types[id];
    if (type == PieceType::unused) continue;
    file.vocabulary.emplace_back(tokens.texts[id], narrow<std::int32_t>(id));
    if (type != PieceType::normal) {
      added.push_back(added_token(tokens.texts[id], id, type != PieceType::user_defined));
    }
  }
  Json merges = Json::array();
  for (std::string& merge : gguf.strings("tokenizer.ggml.merges")) {
    merges.push_back(std::move(merge));
  }
  Json processor;
  const auto bos = gguf.find_integer("tokenizer.ggml.bos_token_id");
  if (bos && wants_bos(gguf) && std::in_range<std::size_t>(*bos) &&
      static_cast<std::size_t>(*bos) < tokens.texts.size()) {
    processor = bos_processor(tokens.texts[*bos], *bos);
  }
  file.rest = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", std::move(added)},
               {"normalizer", pre.normalizer},
               {"pre_tokenizer", pre.pre_tokenizer},
               {"post_processor", std::move(processor)},
               {"decoder",
                {{"type", "ByteLevel"},
                 {"add_prefix_space", true},
                 {"trim_offsets", true},
                 {"use_regex", true}}},
               {"model",
                {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"ignore_merges", pre.ignore_merges},
                 {"merges", std::move(merges)}}}};
  return file;
}

std::string gguf_sentencepiece(const io::GgufFile& gguf) {
  const GgufTokens tokens = read_tokens(gguf);
  const std::vector<double> scores = gguf.numbers("tokenizer.ggml.scores");
  if (scores.size() != tokens.texts.size()) {
    fail("{}: {} tokens but {} scores", gguf.path().string(), tokens.texts.size(), scores.size());
  }
  SentencePieceModel model;
  model.model_type = SentencePieceModel::kBpe;
  model.add_dummy_prefix = gguf.find_boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    model.pieces.push_back({tokens.texts[i], static_cast<float>(scores[i]), tokens.types[i]});
  }
  return serialize_sentencepiece(model);
}

// "gpt2" or "llama".
std::string known_model(const io::GgufFile& gguf) {
  const std::string model = gguf.string("tokenizer.ggml.model");
  if (model != "gpt2" && model != "llama") {
    fail("{}: the tokenizer model '{}' is not supported; known: gpt2, llama", gguf.path().string(),
         model);
  }
  return model;
}

Json gguf_config(const TokenizerSettings& settings, bool sentencepiece) {
  Json config = {{"tokenizer_class", sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", settings.add_bos}};
  if (settings.bos) config["bos_token"] = settings.bos_token;
  if (settings.eos) config["eos_token"] = settings.eos_token;
  if (settings.pad) config["pad_token"] = settings.pad_token;
  if (!settings.chat_template.empty()) config["chat_template"] = settings.chat_template;
  return config;
}

}  // namespace

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const io::GgufFile& gguf) {
  const std::string where = gguf.path().string();
  if (known_model(gguf) == "llama") {
    auto tokenizer = std::make_unique<SentencePieceTokenizer>(
        gguf_sentencepiece(gguf), std::vector<AddedToken>(), true, where);
    tokenizer->set_settings(gguf_settings(gguf, *tokenizer));
    return tokenizer;
  }
  auto tokenizer =
      std::make_unique<BpeTokenizer>(describe_bpe(gguf_tokenizer_file(gguf), where), where);
  tokenizer->set_settings(gguf_settings(gguf, *tokenizer));
  return tokenizer;
}

void write_gguf_tokenizer(const io::GgufFile& gguf, const std::filesystem::path& target) {
  const bool sentencepiece = known_model(gguf) == "llama";
  if (sentencepiece) {
    write_text(target / "tokenizer.model", gguf_sentencepiece(gguf));
  } else {
    write_text(target / "tokenizer.json", print_tokenizer_file(gguf_tokenizer_file(gguf)));
  }
  const auto tokenizer = load_gguf_tokenizer(gguf);
  const Json config = gguf_config(gguf_settings(gguf, *tokenizer), sentencepiece);
  write_text(target / "tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace qlora::text
