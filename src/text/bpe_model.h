#pragma once
// Byte pair encoding of one word: symbols (bytes or characters) joined by rank.

#include "qlora/base/json.h"
#include "text/added_tokens.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qlora::text {

// left and right, neighbours, become result. The lowest rank goes first, then the leftmost.
struct MergeRule {
  std::int32_t left, right, rank, result;
};

// A BPE tokenizer as its file describes it.
struct BpeDescription {
  // What each id stands for; empty where there is no such token. Byte level: bytes. Otherwise the
  // text as the vocabulary spells it.
  std::vector<std::string> tokens;
  std::vector<MergeRule> merges;
  std::vector<AddedToken> added;
  Json normalizer, pre_tokenizer;
  // A word that is a token is that token, whatever the merges say.
  bool ignore_merges = false;
  // Character level only: what stands for a character outside the vocabulary.
  bool byte_fallback = false;
  std::optional<std::int32_t> unknown;
  bool fuse_unknown = false;
  bool strips_first_space = false;
  // The token that a post-processor puts before a text.
  std::optional<std::int32_t> prefix_token;
  // The tokens that end a text, where the file format knows them; eos first.
  std::vector<std::int32_t> stop_ids;
};

// The id that text gets as one token of the vocabulary.
using TokenIds = std::unordered_map<std::string, std::int32_t>;
TokenIds index_tokens(const std::vector<std::string>& tokens);

// (left, right) -> rule, open addressing.
class MergeTable {
 public:
  explicit MergeTable(const std::vector<MergeRule>& rules);
  const MergeRule* find(std::int32_t left, std::int32_t right) const;

 private:
  std::size_t slot(std::int32_t left, std::int32_t right) const;
  std::vector<MergeRule> slots_;  // rank < 0: free
  int shift_ = 63;
};

// Memory of one running encode; not to be shared between threads.
struct BpeScratch {
  struct Symbol {
    std::int32_t id, previous, next;
  };
  struct Candidate {
    std::int32_t rank, position, left, right, result;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

class BpeModel {
 public:
  // Uses tokens, merges and the flags of `description`.
  BpeModel(const BpeDescription& description, bool byte_level);

  // Appends the ids of a word. A symbol that is no token and has no stand-in is left out, as in the
  // Hugging Face library. Time: n log n in the word's length.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<std::int32_t>& ids) const;

 private:
  void start_symbols(std::string_view word, BpeScratch& scratch) const;
  void push_character(std::string_view character, BpeScratch& scratch) const;
  void push_candidate(BpeScratch& scratch, std::int32_t left_at) const;
  void merge_all(BpeScratch& scratch) const;

  MergeTable merges_;
  TokenIds ids_;  // empty where nothing looks tokens up by text
  std::array<std::int32_t, 256> byte_ids_{};
  bool byte_level_, ignore_merges_, byte_fallback_, fuse_unknown_;
  std::optional<std::int32_t> unknown_;
};

}  // namespace qlora::text
