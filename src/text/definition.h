#pragma once
// All that a tokenizer is made of as one text, for Tokenizer::definition_hash.

#include "qlora/base/error.h"
#include "qlora/base/random.h"
#include "text/added_tokens.h"

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace qlora::text {

// Parts carry their lengths, so that no two lists of parts give the same text.
class Definition {
 public:
  Definition& add(std::string_view part) {
    text_ += fmt::format("{}:", part.size());
    text_ += part;
    return *this;
  }
  Definition& add(std::integral auto number) { return add(fmt::format("{}", number)); }
  Definition& add(const std::optional<std::int32_t>& id) {
    return id ? add(*id) : add(std::string_view("none"));
  }
  Definition& add(std::span<const AddedToken> tokens) {
    for (const AddedToken& t : tokens) {
      add(t.id).add(t.content).add(t.special).add(t.lstrip);
      add(t.rstrip).add(t.single_word).add(t.normalized);
    }
    return add(tokens.size());
  }

  std::uint64_t hash() const { return stable_hash(text_); }

 private:
  std::string text_;
};

}  // namespace qlora::text
