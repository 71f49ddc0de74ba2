#include "text/normalizer.h"

#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

namespace qlora::text {
namespace {

constexpr int kDeepestSequence = 8;

int combining_class(char32_t c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

// Combining marks of different classes commute, so sorting a run of them changes no normal form.
// utf8proc sorts by exchanging neighbours, which takes minutes for a hostile run: sort long ones.
std::string sort_long_mark_runs(std::string_view text) {
  constexpr std::size_t kLong = 64;
  std::string out;
  std::vector<char32_t> run;
  const auto end_run = [&] {
    if (run.size() > kLong) {
      std::stable_sort(run.begin(), run.end(), [](char32_t a, char32_t b) {
        return combining_class(a) < combining_class(b);
      });
    }
    for (const char32_t c : run) append_char(c, out);
    run.clear();
  };
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_char(text, at);
    if (c >= 0x300 && combining_class(c) != 0) {
      run.push_back(c);
    } else {
      end_run();
      append_char(c, out);
    }
  }
  end_run();
  return out;
}

std::string map_form(std::string_view text, int options) {
  const std::string sorted = sort_long_mark_runs(text);
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(sorted.data()),
                   static_cast<utf8proc_ssize_t>(sorted.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (size < 0) fail("Unicode normalization failed: {}", utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
}

// Whether the form leaves the character alone and it never joins the one before it; true only for
// the blocks that make up most texts.
bool is_inert(char32_t c, int options) {
  if (c < 0x80 || (c >= 0x4E00 && c <= 0x9FFF)) return true;
  if ((options & UTF8PROC_COMPOSE) == 0) return false;
  const bool hangul_syllable = c >= 0xAC00 && c <= 0xD7A3;
  return hangul_syllable || (c < 0x300 && (options & UTF8PROC_COMPAT) == 0);
}

// Maps only the runs of other characters, each with the character before it, which it may join.
std::string normal_form(std::string_view text, int options) {
  std::string out;
  std::size_t done = 0, previous = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (is_inert(next_char(text, at), options)) {
      previous = begin;
      continue;
    }
    for (std::size_t next = at; next < text.size(); at = next) {
      if (is_inert(next_char(text, next), options)) break;
    }
    out += text.substr(done, previous - done);
    out += map_form(text.substr(previous, at - previous), options);
    done = previous = at;
  }
  return out += text.substr(done);
}

}  // namespace

Normalizer::Normalizer(const Json& description, std::string_view where) {
  add(description, where, 0);
}

void Normalizer::add(const Json& description, std::string_view where, int depth) {
  if (description.is_null()) return;
  const auto type = json_get<std::string>(description, "type", where);
  if (type == "Sequence" && depth < kDeepestSequence) {
    const auto list = description.find("normalizers");
    if (list == description.end()) fail("{}: a Sequence without 'normalizers'", where);
    for (const Json& item : *list) add(item, where, depth + 1);
  } else if (type == "NFC") {
    steps_.push_back({Kind::nfc, {}, {}});
  } else if (type == "NFD") {
    steps_.push_back({Kind::nfd, {}, {}});
  } else if (type == "NFKC") {
    steps_.push_back({Kind::nfkc, {}, {}});
  } else if (type == "NFKD") {
    steps_.push_back({Kind::nfkd, {}, {}});
  } else if (type == "Prepend") {
    steps_.push_back({Kind::prepend, {}, json_get<std::string>(description, "prepend", where)});
  } else if (type == "Replace") {
    const Json pattern = description.value("pattern", Json::object());
    const auto text = json_get<std::string>(pattern, "String", where);
    if (text.empty()) fail("{}: a Replace normalizer with an empty pattern", where);
    steps_.push_back({Kind::replace, text, json_get<std::string>(description, "content", where)});
  } else {
    fail(
        "{}: the normalizer '{}' is not supported; known: NFC, NFD, NFKC, NFKD, Prepend, Replace, "
        "Sequence",
        where, type);
  }
}

std::string Normalizer::apply(std::string_view input) const {
  std::string text(input);
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::nfc: text = normal_form(text, UTF8PROC_COMPOSE); break;
      case Kind::nfd: text = normal_form(text, UTF8PROC_DECOMPOSE); break;
      case Kind::nfkc: text = normal_form(text, UTF8PROC_COMPOSE | UTF8PROC_COMPAT); break;
      case Kind::nfkd: text = normal_form(text, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT); break;
      case Kind::prepend:
        if (!text.empty()) text.insert(0, step.content);
        break;
      case Kind::replace: text = replace_all(text, step.pattern, step.content); break;
    }
  }
  return text;
}

}  // namespace qlora::text
