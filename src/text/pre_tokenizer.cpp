#include "text/pre_tokenizer.h"

#include "text/unicode.h"

#include <cctype>
#include <utility>

namespace qlora::text {
namespace {

constexpr int kDeepestSequence = 8;

// GPT-2, encoder.py.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A pattern that matches `text` itself.
std::string quote(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || std::isalnum(c);
    if (!plain) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& description, std::string_view where) {
  add(description, where, 0);
}

void PreTokenizer::add(const Json& description, std::string_view where, int depth) {
  if (description.is_null()) return;
  const auto type = json_get<std::string>(description, "type", where);
  if (type == "Sequence" && depth < kDeepestSequence) {
    const auto list = description.find("pretokenizers");
    if (list == description.end()) fail("{}: a Sequence without 'pretokenizers'", where);
    for (const Json& item : *list) add(item, where, depth + 1);
  } else if (type == "Split") {
    add_split(description, where);
  } else if (type == "Digits") {
    const bool each = json_get_or<bool>(description, "individual_digits", false, where);
    steps_.push_back({.kind = Kind::digits,
                      .pattern = {},
                      .behavior = each ? Behavior::isolated : Behavior::contiguous,
                      .content = {}});
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    if (json_get_or<bool>(description, "add_prefix_space", true, where)) {
      steps_.push_back({.kind = Kind::prefix, .pattern = {}, .content = " "});
    }
    if (json_get_or<bool>(description, "use_regex", true, where)) {
      steps_.push_back(
          {.kind = Kind::split, .pattern = Regex(kGpt2Pattern, std::string(where)), .content = {}});
    }
  } else if (type == "Metaspace") {
    add_metaspace(description, where);
  } else {
    fail(
        "{}: the pre-tokenizer '{}' is not supported; known: Split, Digits, ByteLevel, Metaspace, "
        "Sequence",
        where, type);
  }
}

PreTokenizer::Behavior PreTokenizer::read_behavior(const Json& description,
                                                   std::string_view where) {
  const auto name = json_get<std::string>(description, "behavior", where);
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  fail("{}: the behavior '{}' of a Split pre-tokenizer is not known", where, name);
}

void PreTokenizer::add_split(const Json& description, std::string_view where) {
  const Json pattern = description.value("pattern", Json::object());
  const std::string regex = pattern.is_object() && pattern.contains("String")
                                ? quote(json_get<std::string>(pattern, "String", where))
                                : json_get<std::string>(pattern, "Regex", where);
  steps_.push_back({.kind = Kind::split,
                    .pattern = Regex(regex, std::string(where)),
                    .behavior = read_behavior(description, where),
                    .invert = json_get_or<bool>(description, "invert", false, where),
                    .content = {}});
}

void PreTokenizer::add_metaspace(const Json& description, std::string_view where) {
  const auto mark = json_get_or<std::string>(description, "replacement", "\u2581", where);
  const bool old_prefix = json_get_or<bool>(description, "add_prefix_space", true, where);
  const auto scheme = json_get_or<std::string>(description, "prepend_scheme",
                                               old_prefix ? "always" : "never", where);
  steps_.push_back({.kind = Kind::spaces, .pattern = {}, .content = mark});
  if (scheme == "always" || scheme == "first") {
    steps_.push_back(
        {.kind = Kind::prefix, .pattern = {}, .first_only = scheme == "first", .content = mark});
  } else if (scheme != "never") {
    fail("{}: the prepend_scheme '{}' of Metaspace is not known", where, scheme);
  }
  if (json_get_or<bool>(description, "split", true, where)) {
    steps_.push_back({.kind = Kind::split,
                      .pattern = Regex(quote(mark), std::string(where)),
                      .behavior = Behavior::merged_with_next,
                      .content = {}});
  }
}

// `first`: nothing of the same word has been pushed yet, so there is nothing to merge with.
void PreTokenizer::push(Words& words, TextRange range, bool match, bool last_match, bool first,
                        Behavior behavior) {
  if (range.begin == range.end || (behavior == Behavior::removed && match)) return;
  const bool merge =
      !first && ((behavior == Behavior::merged_with_previous && match && !last_match) ||
                 (behavior == Behavior::merged_with_next && !match && last_match) ||
                 (behavior == Behavior::contiguous && match == last_match));
  if (merge) {
    words.next.back().end = range.end;
  } else {
    words.next.push_back(range);
  }
}

void PreTokenizer::split(const Step& step, Words& words, RegexScratch& scratch) {
  for (const TextRange& word : words.ranges) {
    const std::string_view text =
        std::string_view(words.text).substr(word.begin, word.end - word.begin);
    const std::size_t pushed_before = words.next.size();
    std::size_t done = 0;
    bool last_match = false;
    const auto take = [&](std::size_t end, bool match) {
      if (done == end) return;
      push(words, {word.begin + done, word.begin + end}, match != step.invert, last_match,
           words.next.size() == pushed_before, step.behavior);
      last_match = match != step.invert;
      done = end;
    };
    for (std::size_t from = 0; from < text.size();) {
      const auto found = step.pattern->find(text, from, scratch);
      if (!found) break;
      from = found->end;
      if (found->begin == found->end) {
        if (from < text.size()) next_char(text, from);
        continue;
      }
      take(found->begin, false);
      take(found->end, true);
    }
    take(text.size(), false);
  }
}

void PreTokenizer::digits(const Step& step, Words& words) {
  for (const TextRange& word : words.ranges) {
    std::size_t done = word.begin;
    bool in_number = false;
    for (std::size_t at = word.begin; at < word.end;) {
      const std::size_t begin = at;
      const bool digit = is_numeric(next_char(words.text, at));
      const bool cut = digit != in_number || (digit && step.behavior == Behavior::isolated);
      if (cut && done < begin) {
        words.next.push_back({done, begin});
        done = begin;
      }
      in_number = digit;
    }
    if (done < word.end) words.next.push_back({done, word.end});
  }
}

void PreTokenizer::prefix(const Step& step, Words& words, bool at_start) {
  std::string text;
  for (std::size_t i = 0; i < words.ranges.size(); ++i) {
    const TextRange range = words.ranges[i];
    const std::string_view word =
        std::string_view(words.text).substr(range.begin, range.end - range.begin);
    const std::size_t begin = text.size();
    const bool wanted = !step.first_only || (at_start && i == 0);
    if (wanted && !word.starts_with(step.content)) text += step.content;
    text += word;
    words.next.push_back({begin, text.size()});
  }
  words.text = std::move(text);
}

void PreTokenizer::replace_spaces(const Step& step, Words& words) {
  std::string text;
  for (const TextRange& range : words.ranges) {
    const std::size_t begin = text.size();
    for (std::size_t at = range.begin; at < range.end; ++at) {
      if (words.text[at] == ' ') {
        text += step.content;
      } else {
        text += words.text[at];
      }
    }
    words.next.push_back({begin, text.size()});
  }
  words.text = std::move(text);
}

void PreTokenizer::apply(Words& words, bool at_start, RegexScratch& scratch) const {
  words.ranges.clear();
  if (words.text.empty()) return;
  words.ranges.push_back({0, words.text.size()});
  for (const Step& step : steps_) {
    words.next.clear();
    switch (step.kind) {
      case Kind::split: split(step, words, scratch); break;
      case Kind::digits: digits(step, words); break;
      case Kind::prefix: prefix(step, words, at_start); break;
      case Kind::spaces: replace_spaces(step, words); break;
    }
    std::swap(words.ranges, words.next);
  }
}

}  // namespace qlora::text
