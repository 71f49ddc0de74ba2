#pragma once
// The `pre_tokenizer` of tokenizer.json: how a text is cut into the words that BPE works in.

#include "qlora/base/json.h"
#include "text/regex.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

// A text (owned: steps may change it) and its words in order.
struct Words {
  std::string text;
  std::vector<TextRange> ranges;
  std::vector<TextRange> next;  // kept between calls for its memory
};

class PreTokenizer {
 public:
  // From tokenizer.json's value: null, Split, Digits, ByteLevel, Metaspace or a Sequence of these.
  // Throws Error naming any other type.
  PreTokenizer(const Json& description, std::string_view where);

  // Whether it ends in ByteLevel: BPE then works on bytes, else on characters.
  bool byte_level() const { return byte_level_; }
  // Cuts words.text, one piece at first. `at_start`: the text begins the whole input.
  void apply(Words& words, bool at_start, RegexScratch& scratch) const;

 private:
  enum class Kind { split, digits, prefix, spaces };
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  struct Step {
    Kind kind;
    std::optional<Regex> pattern;
    Behavior behavior = Behavior::isolated;
    bool invert = false;
    bool first_only = false;  // prefix: only before the very first word
    std::string content;      // prefix: what to put before; spaces: what stands for U+0020
  };

  void add(const Json& description, std::string_view where, int depth);
  void add_split(const Json& description, std::string_view where);
  void add_metaspace(const Json& description, std::string_view where);
  static Behavior read_behavior(const Json& description, std::string_view where);
  static void push(Words& words, TextRange range, bool match, bool last_match, bool first,
                   Behavior behavior);
  static void split(const Step& step, Words& words, RegexScratch& scratch);
  static void digits(const Step& step, Words& words);
  static void prefix(const Step& step, Words& words, bool at_start);
  static void replace_spaces(const Step& step, Words& words);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace qlora::text
