#include "text/regex.h"

#include "qlora/base/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace qlora::text {
namespace {

// Real pre-tokenizers need a few steps a byte; this stops a pattern that backtracks without end.
constexpr std::uint32_t kStepLimit = 20'000'000;
constexpr std::size_t kFirstStack = 32 * 1024;
constexpr std::size_t kStackLimit = 4 * 1024 * 1024;
constexpr std::size_t kLongestPattern = 64 * 1024;

constexpr std::string_view kWhitespace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

// PCRE2's own \s has U+180E besides, which lost White_Space in Unicode 6.3. \S inside a class
// cannot be written out; there PCRE2's meaning stays.
std::string spell_out_whitespace(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += in_class ? std::string(kWhitespace) : "[" + std::string(kWhitespace) + "]";
      } else if (escaped == 'S' && !in_class) {
        out += "[^" + std::string(kWhitespace) + "]";
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string message(int error) {
  PCRE2_UCHAR text[128] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

RegexScratch::RegexScratch()
    : match_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(kFirstStack, kStackLimit, nullptr)) {
  QLORA_ASSERT(match_ != nullptr && context_ != nullptr);
  pcre2_set_match_limit(context_, kStepLimit);
  // Without a stack (no JIT on this machine) matching goes on in the interpreter.
  if (stack_ != nullptr) pcre2_jit_stack_assign(context_, nullptr, stack_);
}

RegexScratch::~RegexScratch() {
  pcre2_match_data_free(match_);
  pcre2_match_context_free(context_);
  pcre2_jit_stack_free(stack_);
}

void Regex::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Regex::Regex(std::string_view pattern, std::string where) : where_(std::move(where)) {
  if (pattern.size() > kLongestPattern) {
    fail("{}: a regular expression has {} bytes; expected at most {}", where_, pattern.size(),
         kLongestPattern);
  }
  const std::string portable = spell_out_whitespace(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(units(portable), portable.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                            nullptr));
  if (code_ == nullptr) {
    fail("{}: the regular expression '{}' does not compile: {}", where_, pattern, message(error));
  }
  // A refusal is no error: pcre2_match then interprets.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

std::optional<TextRange> Regex::find(std::string_view text, std::size_t from,
                                     RegexScratch& scratch) const {
  const int count = pcre2_match(code_.get(), units(text), text.size(), from, PCRE2_NO_UTF_CHECK,
                                scratch.match_, scratch.context_);
  if (count == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (count < 0) {
    fail("{}: the pre-tokenizer's regular expression gave up on a text of {} bytes: {}", where_,
         text.size(), message(count));
  }
  const PCRE2_SIZE* const offsets = pcre2_get_ovector_pointer(scratch.match_);
  // \K in a lookahead can put the start behind the end.
  if (offsets[0] < from || offsets[1] < offsets[0]) {
    fail("{}: the pre-tokenizer's regular expression moves a match's start (\\K)", where_);
  }
  return TextRange{offsets[0], offsets[1]};
}

}  // namespace qlora::text
