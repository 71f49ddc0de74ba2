#pragma once
// Text to token ids and back. One interface over byte-level BPE (tokenizer.json, GGUF, tiktoken
// rank files) and sentencepiece; load_tokenizer picks the implementation from the files.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

// Whether the text of a special token ("<|im_end|>") stands for that token or for its characters.
enum class SpecialTokens { parse, plain };

// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// What tokenizer_config.json, special_tokens_map.json, generation_config.json or GGUF keys say.
struct TokenizerSettings {
  std::optional<std::int32_t> bos, eos, pad;
  // Every token that ends generation: eos and generation_config.json's eos_token_id list.
  std::vector<std::int32_t> stop_ids;
  // The text of bos, eos and pad as chat templates want them; empty where there is none.
  std::string bos_token, eos_token, pad_token;
  // Whether a text that no chat template wrote starts with bos.
  bool add_bos = false;
  // Jinja source; empty where the model has none.
  std::string chat_template;
};

// Immutable after loading; every method may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of `text`. Adds neither BOS nor EOS: the caller does, by add_bos() and its own needs.
  // Malformed UTF-8 is encoded as U+FFFD, one for each maximal malformed part (as Python's
  // errors="replace" does). Added tokens that are not special always match; plain keeps special
  // ones from matching. Throws Error where the tokenizer's own pattern runs past its step limit.
  std::vector<std::int32_t> encode(std::string_view text,
                                   SpecialTokens special = SpecialTokens::parse) const;

  // The same with special tokens parsed, except where they would touch one of `plain` (ascending,
  // not overlapping): what a chat template wrote is parsed, what a user wrote is not, and the
  // rest of the text is tokenized as one.
  std::vector<std::int32_t> encode(std::string_view text, std::span<const TextRange> plain) const;

  // The text of `ids`: token_bytes joined, malformed UTF-8 as U+FFFD, without the first space
  // where strips_first_space(). encode(decode(ids)) need not give ids back.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = false) const;

  // The bytes that one token stands for, possibly part of a character; a special token's own text.
  // Empty for an id without a token (models pad their vocabulary).
  virtual std::string token_bytes(std::int32_t id) const = 0;
  virtual bool is_special(std::int32_t id) const = 0;
  // The token whose token_bytes are `text`, added tokens first.
  virtual std::optional<std::int32_t> token_id(std::string_view text) const = 0;
  // One more than the greatest id; the model's embedding may have more rows.
  virtual std::int64_t vocab_size() const = 0;
  // Whether encode put a space before the text (sentencepiece) that decode takes away again.
  virtual bool strips_first_space() const { return false; }

  std::optional<std::int32_t> bos() const { return settings_.bos; }
  std::optional<std::int32_t> eos() const { return settings_.eos; }
  std::optional<std::int32_t> pad() const { return settings_.pad; }
  const std::vector<std::int32_t>& stop_ids() const { return settings_.stop_ids; }
  const std::string& bos_token() const { return settings_.bos_token; }
  const std::string& eos_token() const { return settings_.eos_token; }
  const std::string& pad_token() const { return settings_.pad_token; }
  bool add_bos() const { return settings_.add_bos; }
  const std::string& chat_template() const { return settings_.chat_template; }

  // A number that two tokenizers share only where they do the same and have the same settings;
  // 0 where it is not known.
  std::uint64_t definition_hash() const;

 protected:
  Tokenizer() = default;
  // `definition`: the hash of all that it is made of but the settings.
  explicit Tokenizer(std::uint64_t definition) : definition_hash_(definition) {}

  // `text` is well-formed UTF-8.
  virtual std::vector<std::int32_t> encode_valid(std::string_view text,
                                                 std::span<const TextRange> plain) const = 0;

  TokenizerSettings settings_;

 private:
  std::uint64_t definition_hash_ = 0;
};

// Opens the tokenizer of a model: a Hugging Face directory, one file (tokenizer.json, a
// sentencepiece or tiktoken *.model) with the settings files beside it, or a .gguf.
// Throws Error where nothing fits, a file is broken, or a part of it is of an unknown type.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_path);

// Puts the tokenizer of `source` (any path that load_tokenizer opens) into the existing directory
// `target` as files that Hugging Face libraries load: copies them, or writes them for a GGUF.
void save_tokenizer(const std::filesystem::path& source, const std::filesystem::path& target);

}  // namespace qlora::text
