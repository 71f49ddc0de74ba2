#pragma once
// The files beside a tokenizer: tokenizer_config.json, special_tokens_map.json,
// generation_config.json, chat_template.jinja.

#include "qlora/base/json.h"
#include "qlora/text/tokenizer.h"
#include "text/added_tokens.h"

#include <filesystem>
#include <vector>

namespace qlora::text {

// What the tokenizer's own file says, for where the files beside it say nothing.
struct OwnTokens {
  std::optional<std::int32_t> bos, eos, pad;
  bool add_bos = false;
  std::vector<std::int32_t> stop_ids;  // besides eos
};

class SettingsFiles {
 public:
  // Reads those that exist in `folder`; throws Error where one is broken.
  explicit SettingsFiles(const std::filesystem::path& folder);

  // tokenizer_config.json's added_tokens_decoder replaces and extends `added`, id by id.
  void update(std::vector<AddedToken>& added) const;
  // tokenizer_config.json's `legacy` (sentencepiece), true where it does not say.
  bool legacy() const;
  // A token's text is looked up in `tokenizer`; one that it lacks is left out with a warning.
  TokenizerSettings settings(const Tokenizer& tokenizer, const OwnTokens& own) const;

 private:
  std::string where(const char* name) const;
  std::optional<std::int32_t> named_token(const char* key, const Tokenizer& tokenizer) const;
  std::optional<std::int32_t> generation_token(const char* key) const;
  std::vector<std::int32_t> stop_ids(std::optional<std::int32_t> eos, const OwnTokens& own) const;
  std::string chat_template() const;

  std::filesystem::path folder_;
  Json config_, special_map_, generation_;  // empty objects where the file is absent
};

}  // namespace qlora::text
