#include "text/bpe_tokenizer.h"

#include "qlora/base/error.h"
#include "text/definition.h"
#include "text/unicode.h"
#include "text/word_cache.h"

#include <algorithm>

namespace qlora::text {
namespace {

std::vector<AddedToken> select(const std::vector<AddedToken>& added, const Normalizer& normalizer,
                               bool normalized) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : added) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = normalizer.apply(token.content);
    chosen.push_back(std::move(token));
  }
  return chosen;
}

std::uint64_t hash_of(const BpeDescription& d) {
  Definition all;
  for (const std::string& token : d.tokens) all.add(token);
  const auto merges = std::as_bytes(std::span(d.merges));
  all.add(std::string_view(reinterpret_cast<const char*>(merges.data()), merges.size()));
  all.add(d.added).add(d.normalizer.dump()).add(d.pre_tokenizer.dump());
  all.add(d.ignore_merges).add(d.byte_fallback).add(d.unknown).add(d.fuse_unknown);
  return all.add(d.strips_first_space).add(d.prefix_token).hash();
}

// For a vocabulary of characters.
std::string decoded_piece(const std::string& token) {
  const auto byte = byte_of_piece(token);
  return byte ? std::string(1, *byte) : spaces_from_marks(token);
}

}  // namespace

struct BpeTokenizer::Scratch {
  RegexScratch regex;
  Words words;
  BpeScratch bpe;
  WordCache cache;
};

BpeTokenizer::BpeTokenizer(BpeDescription description, std::string_view where)
    : Tokenizer(hash_of(description)),
      normalizer_(description.normalizer, where),
      pre_tokenizer_(description.pre_tokenizer, where),
      model_(description, pre_tokenizer_.byte_level()),
      raw_added_(select(description.added, normalizer_, false), where),
      normalized_added_(select(description.added, normalizer_, true), where),
      bytes_(std::move(description.tokens)),
      strips_first_space_(description.strips_first_space),
      prefix_token_(description.prefix_token) {
  if (!pre_tokenizer_.byte_level()) {
    std::transform(bytes_.begin(), bytes_.end(), bytes_.begin(), decoded_piece);
  }
  special_.resize(bytes_.size());
  place_added_tokens(description.added, bytes_, special_, where);
  ids_ = index_tokens(bytes_);
  for (const AddedToken& token : description.added) ids_[token.content] = token.id;
}

BpeTokenizer::~BpeTokenizer() = default;

std::string BpeTokenizer::token_bytes(std::int32_t id) const {
  return id >= 0 && id < vocab_size() ? bytes_[id] : std::string();
}

bool BpeTokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[id];
}

std::optional<std::int32_t> BpeTokenizer::token_id(std::string_view text) const {
  const auto found = ids_.find(std::string(text));
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::unique_ptr<BpeTokenizer::Scratch> BpeTokenizer::take_scratch() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Scratch>();
  auto scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void BpeTokenizer::put_back(std::unique_ptr<Scratch> scratch) const {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
}

std::vector<std::int32_t> BpeTokenizer::encode_valid(std::string_view text,
                                                     std::span<const TextRange> plain) const {
  std::unique_ptr<Scratch> scratch = take_scratch();
  std::vector<std::int32_t> ids;
  for (const Section& section : raw_added_.split(text, plain)) {
    const auto [begin, end] = section.range;
    if (section.token >= 0) {
      ids.push_back(section.token);
    } else {
      encode_part(text.substr(begin, end - begin), begin, plain, *scratch, ids);
    }
  }
  put_back(std::move(scratch));
  return ids;
}

// `offset`: where the part starts in the whole text, to which `plain` refers.
void BpeTokenizer::encode_part(std::string_view text, std::size_t offset,
                               std::span<const TextRange> plain, Scratch& scratch,
                               std::vector<std::int32_t>& ids) const {
  std::string normalized;
  if (!normalizer_.empty()) {
    normalized = normalizer_.apply(text);
  }
  const std::string_view ready = normalizer_.empty() ? text : normalized;
  if (normalized_added_.empty()) {
    encode_words(ready, offset == 0, scratch, ids);
    return;
  }
  std::vector<TextRange> inside;
  for (const TextRange& range : plain) {
    const std::size_t begin = std::max(range.begin, offset);
    const std::size_t end = std::min(range.end, offset + text.size());
    if (begin < end) inside.push_back({begin - offset, end - offset});
  }
  // Normalization moves offsets, so a part that it changes is plain as a whole.
  if (!inside.empty() && ready != text) inside = {{0, ready.size()}};
  for (const Section& section : normalized_added_.split(ready, inside)) {
    const auto [begin, end] = section.range;
    if (section.token >= 0) {
      ids.push_back(section.token);
    } else {
      encode_words(ready.substr(begin, end - begin), offset + begin == 0, scratch, ids);
    }
  }
}

void BpeTokenizer::encode_words(std::string_view text, bool at_start, Scratch& scratch,
                                std::vector<std::int32_t>& ids) const {
  scratch.words.text = text;
  pre_tokenizer_.apply(scratch.words, at_start, scratch.regex);
  const std::string_view whole = scratch.words.text;
  for (const TextRange& range : scratch.words.ranges) {
    const std::string_view word = whole.substr(range.begin, range.end - range.begin);
    if (scratch.cache.find(word, ids)) continue;
    const std::size_t before = ids.size();
    model_.encode(word, scratch.bpe, ids);
    scratch.cache.store(word, std::span(ids).subspan(before));
  }
}

}  // namespace qlora::text
