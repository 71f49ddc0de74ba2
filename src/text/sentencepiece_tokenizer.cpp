#include "text/sentencepiece_tokenizer.h"

#include "qlora/base/error.h"
#include "text/definition.h"
#include "text/sentencepiece_proto.h"
#include "text/unicode.h"

#include <sentencepiece_processor.h>

#include <algorithm>

namespace qlora::text {
namespace {

// Older releases have a string_view of their own.
absl::string_view view(std::string_view text) { return {text.data(), text.size()}; }

std::unique_ptr<sentencepiece::SentencePieceProcessor> open_processor(std::string_view proto,
                                                                      std::string_view where) {
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  try {
    const auto status = processor->LoadFromSerializedProto(view(proto));
    if (!status.ok()) fail("{}: not a sentencepiece model: {}", where, status.error_message());
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // of its trie
    fail("{}: sentencepiece cannot use this model: {}", where, error.what());
  }
  return processor;
}

std::string piece_bytes(const Piece& piece) {
  if (piece.type == PieceType::byte) {
    if (const auto byte = byte_of_piece(piece.text)) return std::string(1, *byte);
  }
  if (piece.type == PieceType::control || piece.type == PieceType::unknown) return piece.text;
  return spaces_from_marks(piece.text);
}

std::optional<std::int32_t> known(int id) {
  return id < 0 ? std::nullopt : std::optional<std::int32_t>(id);
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view proto,
                                               std::vector<AddedToken> added, bool legacy,
                                               std::string_view where)
    : Tokenizer(Definition().add(proto).add(added).add(legacy).hash()), legacy_(legacy) {
  const SentencePieceModel model = parse_sentencepiece(proto, where);
  prefix_ = model.add_dummy_prefix;
  processor_ = open_processor(proto, where);
  if (prefix_ && !legacy_) inner_processor_ = open_processor(without_dummy_prefix(proto), where);
  for (const Piece& piece : model.pieces) {
    bytes_.push_back(piece_bytes(piece));
    special_.push_back(piece.type == PieceType::control || piece.type == PieceType::unknown);
  }
  const auto has = [&](std::int32_t id) {
    return std::any_of(added.begin(), added.end(), [&](const auto& t) { return t.id == id; });
  };
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    if (model.pieces[i].type == PieceType::control && !has(id)) {
      added.push_back({.id = id, .content = model.pieces[i].text, .special = true});
    }
  }
  place_added_tokens(added, bytes_, special_, where);
  ids_ = index_tokens(bytes_);
  for (const AddedToken& token : added) ids_[token.content] = token.id;
  added_ = std::make_unique<AddedTokenMatcher>(std::move(added), where);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::optional<std::int32_t> SentencePieceTokenizer::model_bos() const {
  return known(processor_->bos_id());
}
std::optional<std::int32_t> SentencePieceTokenizer::model_eos() const {
  return known(processor_->eos_id());
}
std::optional<std::int32_t> SentencePieceTokenizer::model_pad() const {
  return known(processor_->pad_id());
}

std::string SentencePieceTokenizer::token_bytes(std::int32_t id) const {
  return id >= 0 && id < vocab_size() ? bytes_[id] : std::string();
}

bool SentencePieceTokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[id];
}

std::optional<std::int32_t> SentencePieceTokenizer::token_id(std::string_view text) const {
  const auto found = ids_.find(std::string(text));
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::int32_t> SentencePieceTokenizer::encode_valid(
    std::string_view text, std::span<const TextRange> plain) const {
  std::vector<std::int32_t> ids;
  std::vector<int> part;
  for (const Section& section : added_->split(text, plain)) {
    if (section.token >= 0) {
      ids.push_back(section.token);
      continue;
    }
    const auto [begin, end] = section.range;
    const bool inner = inner_processor_ != nullptr && begin > 0;
    const Processor& processor = inner ? *inner_processor_ : *processor_;
    part.clear();
    const auto status = processor.Encode(view(text.substr(begin, end - begin)), &part);
    if (!status.ok()) fail("sentencepiece: {}", status.error_message());
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

}  // namespace qlora::text
