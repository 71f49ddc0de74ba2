#pragma once
// A tokenizer without files: one token a byte, and some special tokens behind them.

#include "qlora/text/tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace qlora::data::test {

inline constexpr char kChatMl[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

class FakeTokenizer : public text::Tokenizer {
 public:
  static constexpr std::int32_t kBos = 256, kEos = 257, kPad = 258, kStart = 259, kEnd = 260;

  // `definition`: 0 keeps data sets from being cached; `more`: further special tokens.
  explicit FakeTokenizer(std::string chat_template = kChatMl, std::uint64_t definition = 0,
                         std::vector<std::string> more = {})
      : Tokenizer(definition) {
    special_.insert(special_.end(), more.begin(), more.end());
    settings_.bos = kBos;
    settings_.eos = kEos;
    settings_.pad = kPad;
    settings_.bos_token = "<s>";
    settings_.eos_token = "</s>";
    settings_.add_bos = true;
    settings_.chat_template = std::move(chat_template);
  }

  std::string token_bytes(std::int32_t id) const override {
    return id < kBos ? std::string(1, static_cast<char>(id))
                     : special_.at(static_cast<std::size_t>(id - kBos));
  }
  bool is_special(std::int32_t id) const override { return id >= kBos; }
  std::optional<std::int32_t> token_id(std::string_view) const override { return std::nullopt; }
  std::int64_t vocab_size() const override {
    return kBos + static_cast<std::int64_t>(special_.size());
  }

 protected:
  std::vector<std::int32_t> encode_valid(std::string_view text,
                                         std::span<const text::TextRange> plain) const override {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < text.size();) {
      std::size_t length = 1;
      auto id = static_cast<std::int32_t>(static_cast<unsigned char>(text[i]));
      for (std::size_t s = 0; s < special_.size(); ++s) {
        const std::size_t end = i + special_[s].size();
        const bool touches = std::ranges::any_of(
            plain, [&](const auto& range) { return range.begin < end && range.end > i; });
        if (!text.substr(i).starts_with(special_[s]) || touches) continue;
        id = kBos + static_cast<std::int32_t>(s);
        length = special_[s].size();
      }
      ids.push_back(id);
      i += length;
    }
    return ids;
  }

 private:
  std::vector<std::string> special_{"<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"};
};

}  // namespace qlora::data::test
