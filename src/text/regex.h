#pragma once
// Regular expressions of pre-tokenizers: PCRE2, compiled to machine code, Unicode properties.

#include "qlora/text/tokenizer.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace qlora::text {

// What one running match needs; not to be shared between threads.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  pcre2_real_match_data_8* match_ = nullptr;
  pcre2_real_match_context_8* context_ = nullptr;
  pcre2_real_jit_stack_8* stack_ = nullptr;
};

class Regex {
 public:
  // Compiles a pattern in the syntax of Oniguruma or Rust that tokenizer files use. `where` names
  // the file in errors. \s means White_Space as it does there.
  Regex(std::string_view pattern, std::string where);

  // The first match at or after byte `from` of well-formed `text`, possibly empty.
  // Throws Error where the match takes more than the step limit.
  std::optional<TextRange> find(std::string_view text, std::size_t from,
                                RegexScratch& scratch) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  std::string where_;
};

}  // namespace qlora::text
