#include "text/sentencepiece_proto.h"

#include "qlora/base/error.h"
#include "qlora/base/text_util.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace qlora::text {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr int kModelPieces = 1, kModelTrainer = 2, kModelNormalizer = 3, kModelDenormalizer = 5;
constexpr int kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr int kTrainerModelType = 3, kTrainerByteFallback = 35;
constexpr int kNormalizerName = 1, kNormalizerMap = 2, kNormalizerDummyPrefix = 3,
              kNormalizerRemoveSpaces = 4, kNormalizerEscapeSpaces = 5;

enum class Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
  int number;
  Wire wire;
  std::uint64_t value;     // varint and fixed types
  std::string_view bytes;  // of Wire::bytes
};

class FieldReader {
 public:
  FieldReader(std::string_view message, std::string_view where) : rest_(message), where_(where) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {static_cast<int>(tag >> 3 & 0x1FFFFFFF), static_cast<Wire>(tag & 7), 0, {}};
    switch (field.wire) {
      case Wire::varint: field.value = varint(); break;
      case Wire::fixed64: field.value = fixed<std::uint64_t>(); break;
      case Wire::fixed32: field.value = fixed<std::uint32_t>(); break;
      case Wire::bytes: field.bytes = take(varint()); break;
      default: broken();
    }
    return true;
  }

 private:
  [[noreturn]] void broken() const {
    fail("{}: not a whole sentencepiece model (nor a tiktoken rank file)", where_);
  }
  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) broken();
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  template <class T>
  T fixed() {
    T value;
    const std::string_view bytes = take(sizeof value);
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    broken();
  }

  std::string_view rest_, where_;
};

Piece read_piece(std::string_view message, std::string_view where) {
  Piece piece;
  FieldReader reader(message, where);
  for (Field field; reader.next(field);) {
    if (field.number == kPieceText && field.wire == Wire::bytes) {
      piece.text = field.bytes;
    } else if (field.number == kPieceScore && field.wire == Wire::fixed32) {
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    } else if (field.number == kPieceType && field.wire == Wire::varint) {
      if (field.value < 1 || field.value > 6) {
        fail("{}: the piece '{}' has the unknown type {}", where, piece.text, field.value);
      }
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  if (piece.text.empty() || piece.text.find('\0') != std::string::npos ||
      find_invalid_utf8(piece.text) != std::string::npos || !std::isfinite(piece.score)) {
    fail("{}: a piece is empty, no text, or without a finite score", where);
  }
  return piece;
}

// A unit of the double-array trie (Darts-clone, darts.h) at `index`.
struct TrieUnit {
  std::uint32_t bits;
  bool is_value() const { return bits >> 31 != 0; }
  bool has_value() const { return (bits >> 8 & 1) != 0; }
  std::uint32_t value() const { return bits & 0x7FFFFFFF; }
  std::uint32_t offset() const { return bits >> 10 << ((bits & 1u << 9) >> 6); }
};

// precompiled_charsmap: u32 trie bytes, trie units, replacement texts that end in NUL. The library
// follows the trie without looking at its bounds.
void check_normalization_map(std::string_view map, std::string_view where) {
  if (map.empty()) return;
  const auto broken = [&] { fail("{}: the normalization table is broken", where); };
  std::uint32_t trie_bytes = 0;
  if (map.size() <= sizeof trie_bytes) broken();
  std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
  map.remove_prefix(sizeof trie_bytes);
  if (trie_bytes == 0 || trie_bytes >= map.size() || trie_bytes % 1024 != 0) broken();
  const std::string_view texts = map.substr(trie_bytes);
  if (texts.back() != '\0' || find_invalid_utf8(texts) != std::string_view::npos) broken();
  const std::uint32_t count = trie_bytes / 4;
  const auto unit = [&](std::uint32_t index) {
    TrieUnit out{};
    std::memcpy(&out.bits, map.data() + std::size_t{index} * 4, 4);
    return out;
  };
  for (std::uint32_t index = 0; index < count; ++index) {
    const TrieUnit node = unit(index);
    if (node.is_value()) continue;
    const std::uint32_t base = index ^ node.offset();
    if ((base | 0xFF) >= count) broken();
    if (node.has_value() && unit(base).value() >= texts.size()) broken();
  }
}

void read_normalizer(std::string_view message, std::string_view where, SentencePieceModel& model) {
  FieldReader reader(message, where);
  for (Field field; reader.next(field);) {
    if (field.number == kNormalizerDummyPrefix) model.add_dummy_prefix = field.value != 0;
    if (field.number == kNormalizerMap) check_normalization_map(field.bytes, where);
  }
}

void read_trainer(std::string_view message, std::string_view where, SentencePieceModel& model) {
  FieldReader reader(message, where);
  for (Field field; reader.next(field);) {
    if (field.number == kTrainerModelType) model.model_type = static_cast<int>(field.value);
  }
}

void put_varint(std::uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_number(int field, std::uint64_t value, std::string& out) {
  put_varint(std::uint64_t(field) << 3 | std::uint64_t(Wire::varint), out);
  put_varint(value, out);
}

void put_bytes(int field, std::string_view bytes, std::string& out) {
  put_varint(std::uint64_t(field) << 3 | std::uint64_t(Wire::bytes), out);
  put_varint(bytes.size(), out);
  out += bytes;
}

std::string serialize_piece(const Piece& piece) {
  std::string out;
  put_bytes(kPieceText, piece.text, out);
  put_varint(std::uint64_t(kPieceScore) << 3 | std::uint64_t(Wire::fixed32), out);
  out.append(reinterpret_cast<const char*>(&piece.score), sizeof piece.score);
  put_number(kPieceType, static_cast<std::uint64_t>(piece.type), out);
  return out;
}

}  // namespace

SentencePieceModel parse_sentencepiece(std::string_view proto, std::string_view where) {
  SentencePieceModel model;
  FieldReader reader(proto, where);
  for (Field field; reader.next(field);) {
    if (field.wire != Wire::bytes) continue;
    if (field.number == kModelPieces) model.pieces.push_back(read_piece(field.bytes, where));
    if (field.number == kModelTrainer) read_trainer(field.bytes, where, model);
    if (field.number == kModelNormalizer) read_normalizer(field.bytes, where, model);
    if (field.number == kModelDenormalizer) {
      SentencePieceModel unused;
      read_normalizer(field.bytes, where, unused);
    }
  }
  if (model.pieces.empty()) fail("{}: a sentencepiece model without pieces", where);
  if (model.model_type != SentencePieceModel::kUnigram &&
      model.model_type != SentencePieceModel::kBpe) {
    fail("{}: sentencepiece model type {} is not supported; known: 1 (unigram), 2 (BPE)", where,
         model.model_type);
  }
  return model;
}

std::string serialize_sentencepiece(const SentencePieceModel& model) {
  std::string out;
  bool has_bytes = false;
  for (const Piece& piece : model.pieces) {
    put_bytes(kModelPieces, serialize_piece(piece), out);
    has_bytes |= piece.type == PieceType::byte;
  }
  std::string trainer;
  put_number(kTrainerModelType, static_cast<std::uint64_t>(model.model_type), trainer);
  put_number(kTrainerByteFallback, has_bytes, trainer);
  put_bytes(kModelTrainer, trainer, out);
  std::string normalizer;
  put_bytes(kNormalizerName, "identity", normalizer);
  put_number(kNormalizerDummyPrefix, model.add_dummy_prefix, normalizer);
  put_number(kNormalizerRemoveSpaces, 0, normalizer);
  put_number(kNormalizerEscapeSpaces, 1, normalizer);
  put_bytes(kModelNormalizer, normalizer, out);
  return out;
}

std::string without_dummy_prefix(std::string_view proto) {
  std::string normalizer;
  put_number(kNormalizerDummyPrefix, 0, normalizer);
  std::string out(proto);
  put_bytes(kModelNormalizer, normalizer, out);
  return out;
}

}  // namespace qlora::text
