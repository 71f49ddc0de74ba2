#include "qlora/text/tokenizer.h"

#include "qlora/base/error.h"
#include "qlora/base/text_util.h"
#include "qlora/text/stream_decoder.h"
#include "qlora/text/utf8.h"
#include "text/definition.h"

namespace qlora::text {
namespace {

struct RepairedText {
  std::string text;
  std::vector<TextRange> plain;
};

// Repairs the parts between the borders of `plain` one by one, so that the borders can move along.
RepairedText repair_parts(std::string_view text, std::span<const TextRange> plain) {
  RepairedText out;
  std::size_t done = 0;
  for (const TextRange& range : plain) {
    out.text += repair_utf8(text.substr(done, range.begin - done));
    const std::size_t begin = out.text.size();
    out.text += repair_utf8(text.substr(range.begin, range.end - range.begin));
    out.plain.push_back({begin, out.text.size()});
    done = range.end;
  }
  out.text += repair_utf8(text.substr(done));
  return out;
}

void check_ranges(std::string_view text, std::span<const TextRange> plain) {
  std::size_t done = 0;
  for (const TextRange& range : plain) {
    QLORA_ASSERT(done <= range.begin && range.begin <= range.end && range.end <= text.size());
    done = range.end;
  }
}

}  // namespace

std::uint64_t Tokenizer::definition_hash() const {
  if (definition_hash_ == 0) return 0;
  Definition all;
  all.add(definition_hash_).add(settings_.bos).add(settings_.eos).add(settings_.pad);
  all.add(settings_.stop_ids.size());
  for (const std::int32_t id : settings_.stop_ids) all.add(id);
  all.add(settings_.bos_token).add(settings_.eos_token).add(settings_.pad_token);
  return all.add(settings_.add_bos).add(settings_.chat_template).hash();
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  const TextRange whole{0, text.size()};
  return encode(
      text, special == SpecialTokens::plain ? std::span(&whole, 1) : std::span<const TextRange>());
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text,
                                            std::span<const TextRange> plain) const {
  check_ranges(text, plain);
  if (find_invalid_utf8(text) == std::string_view::npos) return encode_valid(text, plain);
  const RepairedText repaired = repair_parts(text, plain);
  return encode_valid(repaired.text, repaired.plain);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string out;
  for (const std::int32_t id : ids) out += decoder.push(id);
  return out + decoder.flush();
}

}  // namespace qlora::text
