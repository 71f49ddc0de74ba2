#include "text/tiktoken.h"

#include "qlora/base/narrow.h"
#include "text/pre_tokenizer_table.h"

#include <charconv>
#include <optional>

namespace qlora::text {
namespace {

constexpr int kSpecialTokens = 256;
constexpr std::size_t kLongestToken = 1024;

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int digit = i + padding >= text.size() ? 0 : base64_digit(text[i]);
    if (digit < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    if (i % 4 == 3) {
      for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xFF);
      bits = 0;
    }
  }
  for (std::size_t i = 0; i < padding; ++i) bytes.pop_back();
  return bytes;
}

struct RankedToken {
  std::string bytes;
  std::int32_t rank;
};

std::optional<RankedToken> parse_line(std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  auto bytes = decode_base64(line.substr(0, space));
  std::int32_t rank = -1;
  const char* const end = line.data() + line.size();
  const auto parsed = std::from_chars(line.data() + space + 1, end, rank);
  if (!bytes || parsed.ec != std::errc() || parsed.ptr != end || rank < 0) return std::nullopt;
  return RankedToken{std::move(*bytes), rank};
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::vector<std::string> read_ranks(std::string_view text, std::string_view where) {
  std::vector<std::string> tokens;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = take_line(text);
    if (line.empty()) continue;
    auto token = parse_line(line);
    if (!token || token->bytes.size() > kLongestToken) {
      fail("{}:{}: expected a token in base64, a space and its rank", where, number);
    }
    if (static_cast<std::size_t>(token->rank) != tokens.size()) {
      fail("{}:{}: expected the rank {}, got {}", where, number, tokens.size(), token->rank);
    }
    tokens.push_back(std::move(token->bytes));
  }
  return tokens;
}

// A pair merges where its bytes together are a token, in the order of that token's rank.
std::vector<MergeRule> derive_merges(const std::vector<std::string>& tokens) {
  const TokenIds ids = index_tokens(tokens);
  std::vector<MergeRule> merges;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string& bytes = tokens[id];
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const auto left = ids.find(bytes.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(bytes.substr(cut));
      if (right == ids.end()) continue;
      const auto rank = static_cast<std::int32_t>(id);
      merges.push_back({left->second, right->second, rank, rank});
    }
  }
  return merges;
}

// The names by offset from the last rank; the rest are reserved ones, numbered in order.
std::string special_name(int offset) {
  switch (offset) {
    case 0: return "<|begin_of_text|>";
    case 1: return "<|end_of_text|>";
    case 6: return "<|start_header_id|>";
    case 7: return "<|end_header_id|>";
    case 9: return "<|eot_id|>";
    default: break;
  }
  const int named_before = offset < 6 ? 2 : offset < 9 ? 4 : 5;
  return fmt::format("<|reserved_special_token_{}|>", offset - named_before);
}

}  // namespace

bool looks_like_tiktoken(std::string_view text) { return parse_line(take_line(text)).has_value(); }

BpeDescription describe_tiktoken(std::string_view text, std::string_view where) {
  BpeDescription out;
  out.tokens = read_ranks(text, where);
  out.merges = derive_merges(out.tokens);
  NamedPreTokenizer pre = named_pre_tokenizer("llama3", where);
  out.pre_tokenizer = std::move(pre.pre_tokenizer);
  out.ignore_merges = pre.ignore_merges;
  const auto ranks = narrow<std::int32_t>(out.tokens.size());
  for (int offset = 0; offset < kSpecialTokens; ++offset) {
    out.added.push_back({.id = ranks + offset, .content = special_name(offset), .special = true});
  }
  out.prefix_token = ranks;
  out.stop_ids = {ranks + 1, ranks + 9};  // <|end_of_text|>, <|eot_id|>
  return out;
}

}  // namespace qlora::text
