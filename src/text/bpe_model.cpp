#include "text/bpe_model.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "text/unicode.h"

#include <algorithm>
#include <bit>

namespace qlora::text {
namespace {

// Later in the heap's order: it keeps the lowest rank, then the leftmost position, on top.
bool later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

std::array<std::int32_t, 256> index_bytes(const TokenIds& ids, bool byte_level) {
  std::array<std::int32_t, 256> table;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text =
        byte_level ? std::string(1, static_cast<char>(byte)) : fmt::format("<0x{:02X}>", byte);
    const auto found = ids.find(text);
    table[byte] = found == ids.end() ? -1 : found->second;
  }
  return table;
}

}  // namespace

TokenIds index_tokens(const std::vector<std::string>& tokens) {
  TokenIds ids;
  ids.reserve(tokens.size());
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) ids.emplace(tokens[id], static_cast<std::int32_t>(id));
  }
  return ids;
}

MergeTable::MergeTable(const std::vector<MergeRule>& rules) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(2 * rules.size(), 16));
  slots_.assign(size, MergeRule{-1, -1, -1, -1});
  shift_ = 64 - std::countr_zero(size);
  for (const MergeRule& rule : rules) {
    std::size_t at = slot(rule.left, rule.right);
    while (slots_[at].rank >= 0 && (slots_[at].left != rule.left || slots_[at].right != rule.right))
      at = (at + 1) & (slots_.size() - 1);
    if (slots_[at].rank < 0 || rule.rank < slots_[at].rank) slots_[at] = rule;
  }
}

std::size_t MergeTable::slot(std::int32_t left, std::int32_t right) const {
  const std::uint64_t key = std::uint64_t(std::uint32_t(left)) << 32 | std::uint32_t(right);
  return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15ull) >> shift_);
}

const MergeRule* MergeTable::find(std::int32_t left, std::int32_t right) const {
  for (std::size_t at = slot(left, right);; at = (at + 1) & (slots_.size() - 1)) {
    const MergeRule& rule = slots_[at];
    if (rule.rank < 0) return nullptr;
    if (rule.left == left && rule.right == right) return &rule;
  }
}

BpeModel::BpeModel(const BpeDescription& description, bool byte_level)
    : merges_(description.merges),
      ids_(index_tokens(description.tokens)),
      byte_ids_(index_bytes(ids_, byte_level)),
      byte_level_(byte_level),
      ignore_merges_(description.ignore_merges),
      byte_fallback_(description.byte_fallback),
      fuse_unknown_(description.fuse_unknown),
      unknown_(description.unknown) {
  if (byte_level_ && !ignore_merges_) ids_.clear();
}

void BpeModel::encode(std::string_view word, BpeScratch& scratch,
                      std::vector<std::int32_t>& ids) const {
  if (ignore_merges_) {
    const auto whole = ids_.find(std::string(word));
    if (whole != ids_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  start_symbols(word, scratch);
  if (scratch.symbols.empty()) return;
  merge_all(scratch);
  for (std::int32_t at = 0; at >= 0; at = scratch.symbols[at].next) {
    ids.push_back(scratch.symbols[at].id);
  }
}

void BpeModel::start_symbols(std::string_view word, BpeScratch& scratch) const {
  scratch.symbols.clear();
  if (byte_level_) {
    for (const char byte : word) {
      const std::int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
      if (id >= 0) {
        scratch.symbols.push_back({id, 0, 0});
      } else if (unknown_) {
        scratch.symbols.push_back({*unknown_, 0, 0});
      }
    }
  } else {
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t begin = at;
      next_char(word, at);
      push_character(word.substr(begin, at - begin), scratch);
    }
  }
  const auto count = narrow<std::int32_t>(scratch.symbols.size());
  for (std::int32_t i = 0; i < count; ++i) {
    scratch.symbols[i].previous = i - 1;
    scratch.symbols[i].next = i + 1 < count ? i + 1 : -1;
  }
}

void BpeModel::push_character(std::string_view character, BpeScratch& scratch) const {
  const auto push = [&](std::int32_t id) { scratch.symbols.push_back({id, 0, 0}); };
  const auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
  const auto found = ids_.find(std::string(character));
  if (found != ids_.end()) {
    push(found->second);
  } else if (byte_fallback_ && std::all_of(character.begin(), character.end(),
                                           [&](char byte) { return byte_id(byte) >= 0; })) {
    for (const char byte : character) push(byte_id(byte));
  } else if (unknown_) {
    const bool fuse =
        fuse_unknown_ && !scratch.symbols.empty() && scratch.symbols.back().id == *unknown_;
    if (!fuse) push(*unknown_);
  }
}

void BpeModel::push_candidate(BpeScratch& scratch, std::int32_t left_at) const {
  if (left_at < 0) return;
  const BpeScratch::Symbol& left = scratch.symbols[left_at];
  if (left.next < 0) return;
  const MergeRule* const rule = merges_.find(left.id, scratch.symbols[left.next].id);
  if (rule == nullptr) return;
  scratch.heap.push_back({rule->rank, left_at, rule->left, rule->right, rule->result});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), later);
}

void BpeModel::merge_all(BpeScratch& scratch) const {
  constexpr std::int32_t kGone = -1;
  auto& symbols = scratch.symbols;
  scratch.heap.clear();
  for (std::int32_t i = 0; i + 1 < static_cast<std::int32_t>(symbols.size()); ++i) {
    push_candidate(scratch, i);
  }
  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), later);
    const BpeScratch::Candidate top = scratch.heap.back();
    scratch.heap.pop_back();
    BpeScratch::Symbol& left = symbols[top.position];
    if (left.id != top.left || left.next < 0) continue;
    BpeScratch::Symbol& right = symbols[left.next];
    if (right.id != top.right) continue;
    left.id = top.result;
    left.next = right.next;
    right.id = kGone;
    if (left.next >= 0) symbols[left.next].previous = top.position;
    push_candidate(scratch, left.previous);
    push_candidate(scratch, top.position);
  }
}

}  // namespace qlora::text
