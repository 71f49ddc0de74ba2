#include "text/pre_tokenizer_table.h"

#include <algorithm>

namespace qlora::text {
namespace {

// meta-llama/llama3, llama/tokenizer.py.
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Qwen/Qwen2-0.5B, tokenizer.json.
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json split(const char* pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json sequence(std::initializer_list<Json> steps) {
  Json list = Json::array();
  for (const Json& step : steps) list.push_back(step);
  return {{"type", "Sequence"}, {"pretokenizers", list}};
}

Json digits() { return {{"type", "Digits"}, {"individual_digits", true}}; }
Json form(const char* name) { return {{"type", name}}; }

struct Row {
  const char* name;
  NamedPreTokenizer (*make)();
};

NamedPreTokenizer gpt2() { return {nullptr, byte_level(true)}; }
NamedPreTokenizer single_digits() { return {nullptr, sequence({digits(), byte_level(true)})}; }
NamedPreTokenizer exaone() { return {form("NFKC"), sequence({digits(), byte_level(true)})}; }
NamedPreTokenizer llama3() {
  return {nullptr, sequence({split(kLlama3Pattern), byte_level(false)}), true};
}
NamedPreTokenizer qwen2() {
  return {form("NFC"), sequence({split(kQwen2Pattern), byte_level(false)})};
}
// What llama.cpp (src/llama-vocab.cpp) does where a file does not name one.
NamedPreTokenizer by_default() {
  return {nullptr, sequence({split(R"([\p{P}\$\+<=>\^~\|]+)"), byte_level(true), split(R"(\p{N}+)"),
                             split("[0-9][0-9][0-9]")})};
}

constexpr Row kRows[] = {
    {"default", by_default}, {"exaone", exaone},   {"gpt-2", gpt2},  {"llama-bpe", llama3},
    {"llama3", llama3},      {"llama-v3", llama3}, {"qwen2", qwen2}, {"smollm", single_digits},
};

}  // namespace

NamedPreTokenizer named_pre_tokenizer(std::string_view name, std::string_view where) {
  std::string known;
  for (const Row& row : kRows) {
    if (row.name == name) return row.make();
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  fail("{}: the pre-tokenizer '{}' is not known; known: {}", where, name, known);
}

}  // namespace qlora::text
