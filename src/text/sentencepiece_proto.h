#pragma once
// sentencepiece's model file (a protobuf message, sentencepiece_model.proto): enough of it to check
// a file before the library opens it, and to write one for the vocabulary of a GGUF.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

// ModelProto.SentencePiece.Type; GGUF's tokenizer.ggml.token_type has the same numbers.
enum class PieceType : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
};

struct SentencePieceModel {
  static constexpr std::int64_t kUnigram = 1, kBpe = 2;

  std::vector<Piece> pieces;
  std::int64_t model_type = kUnigram;  // the proto's default
  bool add_dummy_prefix = true;
};

// Throws Error where the message is broken in a way that the library would not survive: cut fields,
// other model types, a normalization table that points outside itself.
SentencePieceModel parse_sentencepiece(std::string_view proto, std::string_view where);

// A model without a normalization table that keeps all spaces, as Llama's have it.
std::string serialize_sentencepiece(const SentencePieceModel& model);

// The same model with add_dummy_prefix off (in protobuf a later field overrides an earlier one).
std::string without_dummy_prefix(std::string_view proto);

}  // namespace qlora::text
