#pragma once
// The `normalizer` of tokenizer.json: what happens to a text before it is cut into words.

#include "qlora/base/json.h"

#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

class Normalizer {
 public:
  // From tokenizer.json's value: null, NFC, NFD, NFKC, NFKD, Prepend, Replace (by a plain text) or
  // a Sequence of these. Throws Error naming any other type.
  Normalizer(const Json& description, std::string_view where);

  bool empty() const { return steps_.empty(); }
  // `text` is well-formed UTF-8; so is the result.
  std::string apply(std::string_view text) const;

 private:
  enum class Kind { nfc, nfd, nfkc, nfkd, prepend, replace };
  struct Step {
    Kind kind;
    std::string pattern, content;
  };
  void add(const Json& description, std::string_view where, int depth);

  std::vector<Step> steps_;
};

}  // namespace qlora::text
