#include "text/added_tokens.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "text/unicode.h"

#include <algorithm>

namespace qlora::text {
namespace {

constexpr std::size_t kLongestToken = 1024;

bool word_before(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  std::size_t start = previous_start(text, at);
  return is_word(next_char(text, start));
}

bool word_after(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(next_char(text, at));
}

std::size_t skip_whitespace_back(std::string_view text, std::size_t at, std::size_t stop) {
  while (at > stop) {
    const std::size_t start = previous_start(text, at);
    std::size_t read = start;
    if (!is_whitespace(next_char(text, read))) break;
    at = start;
  }
  return at;
}

std::size_t skip_whitespace(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    std::size_t next = at;
    if (!is_whitespace(next_char(text, next))) break;
    at = next;
  }
  return at;
}

bool overlaps(TextRange range, std::span<const TextRange> plain) {
  const auto after = std::partition_point(plain.begin(), plain.end(),
                                          [&](const TextRange& p) { return p.end <= range.begin; });
  return after != plain.end() && after->begin < range.end;
}

template <class Next>
std::int32_t child(const Next& next, char byte) {
  for (const auto& [key, node] : next) {
    if (key == byte) return node;
  }
  return -1;
}

}  // namespace

void place_added_tokens(std::span<const AddedToken> added, std::vector<std::string>& bytes,
                        std::vector<bool>& special, std::string_view where) {
  // Ids are meant to be dense; this only keeps a broken file from asking for gigabytes.
  const std::size_t limit = 2 * bytes.size() + 65536;
  for (const AddedToken& token : added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (token.id < 0 || id >= limit) {
      fail("{}: the added token '{}' has the id {}; expected less than {}", where, token.content,
           token.id, limit);
    }
    if (id >= bytes.size()) {
      bytes.resize(id + 1);
      special.resize(id + 1);
    }
    bytes[id] = token.content;
    special[id] = token.special;
  }
}

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens, std::string_view where)
    : tokens_(std::move(tokens)), nodes_(1) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    if (content.empty() || content.size() > kLongestToken) {
      fail("{}: the added token {} has {} bytes; expected 1 to {}", where, tokens_[i].id,
           content.size(), kLongestToken);
    }
    first_bytes_.set(static_cast<unsigned char>(content[0]));
    std::int32_t node = 0;
    for (const char byte : content) {
      std::int32_t to = child(nodes_[node].next, byte);
      if (to < 0) {
        to = narrow<std::int32_t>(nodes_.size());
        nodes_[node].next.emplace_back(byte, to);
        nodes_.emplace_back();
      }
      node = to;
    }
    nodes_[node].token = static_cast<std::int32_t>(i);
  }
}

bool AddedTokenMatcher::allowed(const AddedToken& token, std::string_view text, TextRange range,
                                std::span<const TextRange> plain) const {
  if (token.special && overlaps(range, plain)) return false;
  return !token.single_word || (!word_before(text, range.begin) && !word_after(text, range.end));
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text, std::size_t at,
                                                       std::span<const TextRange> plain) const {
  Match best;
  std::int32_t node = 0;
  for (std::size_t end = at; end < text.size();) {
    node = child(nodes_[node].next, text[end]);
    if (node < 0) break;
    ++end;
    if (nodes_[node].token < 0) continue;
    const AddedToken& token = tokens_[nodes_[node].token];
    if (allowed(token, text, {at, end}, plain)) best = {end, &token};
  }
  return best;
}

std::vector<Section> AddedTokenMatcher::split(std::string_view text,
                                              std::span<const TextRange> plain) const {
  std::vector<Section> sections;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const Match match = longest_at(text, at, plain);
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    const std::size_t begin = match.token->lstrip ? skip_whitespace_back(text, at, done) : at;
    if (done < begin) sections.push_back({{done, begin}, -1});
    done = match.token->rstrip ? skip_whitespace(text, match.end) : match.end;
    sections.push_back({{begin, done}, match.token->id});
    at = done;
  }
  if (done < text.size()) sections.push_back({{done, text.size()}, -1});
  return sections;
}

}  // namespace qlora::text
