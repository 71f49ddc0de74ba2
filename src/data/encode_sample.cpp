#include "data/encode_sample.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace qlora::data {
namespace {

using text::TextRange;

// Bytes [begin, end) of the text, tokenized on their own.
std::vector<std::int32_t> encode_part(const text::Tokenizer& tokenizer,
                                      const text::Rendered& rendered, TextRange range) {
  std::vector<TextRange> plain;
  for (const text::RenderedPart& part : rendered.parts) {
    const std::size_t begin = std::max(part.range.begin, range.begin);
    const std::size_t end = std::min(part.range.end, range.end);
    if (begin < end) plain.push_back({begin - range.begin, end - range.begin});
  }
  const std::string_view bytes = rendered.text;
  return tokenizer.encode(bytes.substr(range.begin, range.end - range.begin), plain);
}

void append(Sample& sample, const std::vector<std::int32_t>& ids, bool learned) {
  sample.ids.insert(sample.ids.end(), ids.begin(), ids.end());
  if (learned) {
    sample.labels.insert(sample.labels.end(), ids.begin(), ids.end());
  } else {
    sample.labels.resize(sample.ids.size(), static_cast<std::int32_t>(kNotLearned));
  }
}

void append_in_parts(Sample& sample, const text::Tokenizer& tokenizer,
                     const LabelledText& labelled) {
  std::size_t done = 0;
  for (const TextRange range : labelled.learned) {
    append(sample, encode_part(tokenizer, labelled.rendered, {done, range.begin}), false);
    append(sample, encode_part(tokenizer, labelled.rendered, range), true);
    done = range.end;
  }
  const std::size_t size = labelled.rendered.text.size();
  append(sample, encode_part(tokenizer, labelled.rendered, {done, size}), false);
}

void append_as_one(Sample& sample, const text::Tokenizer& tokenizer, const LabelledText& labelled) {
  const text::Rendered& rendered = labelled.rendered;
  const auto ids = encode_part(tokenizer, rendered, {0, rendered.text.size()});
  // The tokens that do not change when the text ends at `byte`.
  const auto tokens_before = [&](std::size_t byte) {
    const auto part = encode_part(tokenizer, rendered, {0, byte});
    return std::ranges::mismatch(part, ids).in2 - ids.begin();
  };
  const auto offset = static_cast<std::ptrdiff_t>(sample.ids.size());
  append(sample, ids, false);
  for (const TextRange range : labelled.learned) {
    const auto begin = tokens_before(range.begin);
    const auto end = tokens_before(range.end);
    std::copy(ids.begin() + begin, ids.begin() + std::max(begin, end),
              sample.labels.begin() + offset + begin);
  }
}

}  // namespace

Sample encode_sample(const text::Tokenizer& tokenizer, const LabelledText& labelled) {
  Sample sample;
  if (labelled.starts_with_bos && tokenizer.add_bos() && tokenizer.bos()) {
    append(sample, {*tokenizer.bos()}, false);
  }
  if (tokenizer.strips_first_space()) {
    append_as_one(sample, tokenizer, labelled);
  } else {
    append_in_parts(sample, tokenizer, labelled);
  }
  if (!sample.labels.empty()) sample.labels[0] = static_cast<std::int32_t>(kNotLearned);
  return sample;
}

}  // namespace qlora::data
