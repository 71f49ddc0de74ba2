#include "qlora/text/utf8.h"

#include "qlora/base/text_util.h"

namespace qlora::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum class Form { whole, unfinished, malformed };
struct Sequence {
  std::size_t length;  // of the maximal well-formed part, at least 1
  Form form;
};

struct Range {
  unsigned char low, high;
};

// What may follow a lead byte (Unicode 15, table 3-7).
Range second_byte(unsigned char lead) {
  switch (lead) {
    case 0xE0: return {0xA0, 0xBF};
    case 0xED: return {0x80, 0x9F};
    case 0xF0: return {0x90, 0xBF};
    case 0xF4: return {0x80, 0x8F};
    default: return {0x80, 0xBF};
  }
}

std::size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

Sequence read_sequence(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const std::size_t length = sequence_length(byte(0));
  if (length == 0) return {1, Form::malformed};
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, Form::unfinished};
    const Range range = i == 1 ? second_byte(byte(0)) : Range{0x80, 0xBF};
    if (byte(i) < range.low || byte(i) > range.high) return {i, Form::malformed};
  }
  return {length, Form::whole};
}

}  // namespace

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_ + std::string(bytes);
    bytes = joined;
    pending_.clear();
  }
  while (!bytes.empty()) {
    const Sequence sequence = read_sequence(bytes);
    if (sequence.form == Form::unfinished) {
      pending_ = bytes;
      return;
    }
    if (sequence.form == Form::whole) {
      out += bytes.substr(0, sequence.length);
    } else {
      out += kReplacement;
    }
    bytes.remove_prefix(sequence.length);
  }
}

void Utf8Repair::flush(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

std::string repair_utf8(std::string_view bytes) {
  if (find_invalid_utf8(bytes) == std::string_view::npos) return std::string(bytes);
  std::string out;
  Utf8Repair repair;
  repair.push(bytes, out);
  repair.flush(out);
  return out;
}

}  // namespace qlora::text
