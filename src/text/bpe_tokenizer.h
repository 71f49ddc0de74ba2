#pragma once
// The BPE tokenizer: added tokens, normalizer, pre-tokenizer, merges and a cache of words.

#include "qlora/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

class BpeTokenizer : public Tokenizer {
 public:
  // `where` names the file in errors.
  BpeTokenizer(BpeDescription description, std::string_view where);
  ~BpeTokenizer() override;

  void set_settings(TokenizerSettings settings) { settings_ = std::move(settings); }
  std::optional<std::int32_t> prefix_token() const { return prefix_token_; }

  std::string token_bytes(std::int32_t id) const override;
  bool is_special(std::int32_t id) const override;
  std::optional<std::int32_t> token_id(std::string_view text) const override;
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  bool strips_first_space() const override { return strips_first_space_; }

 protected:
  std::vector<std::int32_t> encode_valid(std::string_view text,
                                         std::span<const TextRange> plain) const override;

 private:
  struct Scratch;
  void encode_part(std::string_view text, std::size_t offset, std::span<const TextRange> plain,
                   Scratch& scratch, std::vector<std::int32_t>& ids) const;
  void encode_words(std::string_view text, bool at_start, Scratch& scratch,
                    std::vector<std::int32_t>& ids) const;
  std::unique_ptr<Scratch> take_scratch() const;
  void put_back(std::unique_ptr<Scratch> scratch) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  BpeModel model_;
  AddedTokenMatcher raw_added_, normalized_added_;
  std::vector<std::string> bytes_;  // by id
  std::vector<bool> special_;       // by id
  TokenIds ids_;
  bool strips_first_space_;
  std::optional<std::int32_t> prefix_token_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace qlora::text
