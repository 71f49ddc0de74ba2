#pragma once
// sentencepiece models (BPE and unigram) through Google's library.

#include "qlora/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/bpe_model.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace qlora::text {

class SentencePieceTokenizer : public Tokenizer {
 public:
  // `proto`: the model file's bytes. Control pieces and `added` are special tokens of the text.
  // `legacy`: every text between special tokens gets the model's leading space (Hugging Face's
  // default, as Llama 2 was trained); else only the beginning of the whole text.
  SentencePieceTokenizer(std::string_view proto, std::vector<AddedToken> added, bool legacy,
                         std::string_view where);
  ~SentencePieceTokenizer() override;

  void set_settings(TokenizerSettings settings) { settings_ = std::move(settings); }
  // The ids that the model file itself names.
  std::optional<std::int32_t> model_bos() const;
  std::optional<std::int32_t> model_eos() const;
  std::optional<std::int32_t> model_pad() const;

  std::string token_bytes(std::int32_t id) const override;
  bool is_special(std::int32_t id) const override;
  std::optional<std::int32_t> token_id(std::string_view text) const override;
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  bool strips_first_space() const override { return prefix_; }

 protected:
  std::vector<std::int32_t> encode_valid(std::string_view text,
                                         std::span<const TextRange> plain) const override;

 private:
  using Processor = sentencepiece::SentencePieceProcessor;

  bool prefix_, legacy_;
  std::unique_ptr<Processor> processor_;
  std::unique_ptr<Processor> inner_processor_;  // adds no leading space; null where not needed
  std::unique_ptr<AddedTokenMatcher> added_;
  std::vector<std::string> bytes_;  // by id
  std::vector<bool> special_;       // by id
  TokenIds ids_;
};

}  // namespace qlora::text
