#pragma once
// Tokens that are found in the text itself, before any word is cut: chat markers, runs of spaces.

#include "qlora/text/tokenizer.h"

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlora::text {

// tokenizer.json's added_tokens entry.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;
  bool lstrip = false;       // takes the whitespace before it along
  bool rstrip = false;       // and after it
  bool single_word = false;  // only where no word character touches it
  bool normalized = false;   // looked for after normalization
};

// Puts the contents and the special flags at their ids, which may lie past the vocabulary's end.
// Throws Error where an id leaves a large gap.
void place_added_tokens(std::span<const AddedToken> added, std::vector<std::string>& bytes,
                        std::vector<bool>& special, std::string_view where);

// A part of a text: an added token, or (token < 0) text between them.
struct Section {
  TextRange range;
  std::int32_t token = -1;
};

class AddedTokenMatcher {
 public:
  // Throws Error where a content is empty or longer than 1,024 bytes.
  AddedTokenMatcher(std::vector<AddedToken> tokens, std::string_view where);

  bool empty() const { return tokens_.empty(); }
  // Cuts `text` at the leftmost longest tokens. Special ones do not match where they overlap one
  // of `plain` (ascending). The sections cover the text in order, without empty ones.
  std::vector<Section> split(std::string_view text, std::span<const TextRange> plain) const;

 private:
  struct Node {
    std::vector<std::pair<char, std::int32_t>> next;
    std::int32_t token = -1;  // index into tokens_
  };
  struct Match {
    std::size_t end = 0;
    const AddedToken* token = nullptr;
  };
  Match longest_at(std::string_view text, std::size_t at, std::span<const TextRange> plain) const;
  bool allowed(const AddedToken& token, std::string_view text, TextRange range,
               std::span<const TextRange> plain) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a trie over bytes, root first
  std::bitset<256> first_bytes_;
};

}  // namespace qlora::text
