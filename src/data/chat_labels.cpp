#include "data/chat_labels.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace qlora::data {
namespace {

using text::Rendered;

// The text of the first `count` messages is usually how the whole conversation begins. Its length;
// nothing where it is not (a template that drops earlier thoughts, say) or where the template
// refuses so short a conversation.
std::optional<std::size_t> prefix_length(const text::ChatTemplate& chat_template,
                                         const Conversation& conversation, std::size_t count,
                                         text::RenderOptions options, bool prompt,
                                         const Rendered& whole) {
  options.add_generation_prompt = prompt;
  const Json messages(conversation.messages.begin(),
                      conversation.messages.begin() + static_cast<std::ptrdiff_t>(count));
  try {
    const std::string prefix = chat_template.render(messages, options);
    if (whole.text.starts_with(prefix)) return prefix.size();
  } catch (const Error&) {
    return std::nullopt;
  }
  return std::nullopt;
}

// The first byte of `message`, and the first byte of a later one (the whole size: none).
std::optional<std::size_t> first_byte(const Rendered& whole, std::int64_t message) {
  const auto found = std::ranges::find(whole.parts, message, &text::RenderedPart::message);
  if (found == whole.parts.end()) return std::nullopt;
  return found->range.begin;
}

std::size_t later_byte(const Rendered& whole, std::int64_t message, std::size_t from) {
  for (const text::RenderedPart& part : whole.parts) {
    if (part.message > message && part.range.begin >= from) return part.range.begin;
  }
  return whole.text.size();
}

}  // namespace

Labeller::Labeller(const text::Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      instruction_template_(PromptTemplate::parse("alpaca", "instruction template")) {
  if (!tokenizer.chat_template().empty()) {
    template_ = std::make_unique<const text::ChatTemplate>(
        text::ChatTemplate::parse(tokenizer.chat_template(), "chat template"));
  }
  for (std::int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = static_cast<std::int32_t>(id);
    if (tokenizer.is_special(token)) special_texts_.push_back(tokenizer.token_bytes(token));
  }
  std::erase(special_texts_, "");
}

LabelledText Labeller::label(const Example& example) const {
  if (const auto* text = std::get_if<PlainText>(&example)) return label_text(*text);
  if (const auto* instruction = std::get_if<Instruction>(&example)) {
    return template_ ? label_conversation(to_conversation(*instruction))
                     : label_text(instruction_template_.fill(columns_of(*instruction), "row"));
  }
  const auto* conversation = std::get_if<Conversation>(&example);
  if (conversation == nullptr) fail("a row of tokens or classes has no text to label");
  if (!template_) {
    fail(
        "the model has no chat template for conversations; use rows of prompt and completion, or "
        "instruction and output");
  }
  return label_conversation(*conversation);
}

// Behind the special token that ends the answer of which `begin` is past the last byte, or `begin`
// itself where no special token follows before `limit`. All bytes between are the template's.
std::size_t Labeller::end_of_answer(const Rendered& rendered, std::size_t begin, std::size_t limit,
                                    bool& marked) const {
  const std::string_view tail = std::string_view(rendered.text).substr(begin, limit - begin);
  std::size_t first = std::string_view::npos;
  std::size_t length = 0;
  for (const std::string& special : special_texts_) {
    const std::size_t found = tail.find(special);
    if (found == std::string_view::npos) continue;
    if (found < first || (found == first && special.size() > length)) {
      first = found;
      length = special.size();
    }
  }
  marked = marked && first != std::string_view::npos;
  return first == std::string_view::npos ? begin : begin + first + length;
}

LabelledText Labeller::label_conversation(const Conversation& conversation) const {
  text::RenderOptions options = text::render_options(tokenizer_, false);
  options.tools = conversation.tools;
  LabelledText result;
  result.rendered = template_->render_traced(conversation.messages, options);
  const Rendered& whole = result.rendered;
  for (std::size_t i = conversation.first_answer; i < conversation.messages.size(); ++i) {
    if (conversation.messages[i].at("role") != "assistant") continue;
    const auto message = static_cast<std::int64_t>(i);
    auto begin = prefix_length(*template_, conversation, i, options, true, whole);
    if (!begin) begin = first_byte(whole, message);
    if (!begin) continue;  // the template leaves this answer out
    const auto written = prefix_length(*template_, conversation, i + 1, options, false, whole);
    const std::size_t limit =
        std::max(*begin, written ? *written : later_byte(whole, message, *begin));
    std::size_t said = *begin;
    for (const text::RenderedPart& part : whole.parts) {
      if (part.message == message && part.range.end <= limit) said = std::max(said, part.range.end);
    }
    const std::size_t end = end_of_answer(whole, said, limit, result.ends_marked);
    if (end > *begin) result.learned.push_back({*begin, end});
  }
  return result;
}

LabelledText Labeller::label_text(const PlainText& plain) const {
  LabelledText result;
  std::string& text = result.rendered.text;
  const auto add = [&](std::string_view bytes, bool learned) {
    const std::size_t begin = text.size();
    text += bytes;
    if (!learned || bytes.empty()) return;
    if (result.learned.empty() || result.learned.back().end != begin) {
      result.learned.push_back({begin, begin});
    }
    result.learned.back().end = text.size();
  };
  bool verbatim_start = true;
  bool verbatim_end = true;
  for (const TextPart& part : plain.parts) {
    if (part.text.empty()) continue;
    if (text.empty()) verbatim_start = part.verbatim;
    verbatim_end = part.verbatim;
    if (!part.verbatim) {
      result.rendered.parts.push_back({{text.size(), text.size() + part.text.size()}, 0});
    }
    add(part.text, part.learned);
  }
  const std::string& bos = tokenizer_.bos_token();
  result.starts_with_bos = bos.empty() || !verbatim_start || !text.starts_with(bos);
  if (result.learned.empty()) return result;
  if (result.learned.back().end == text.size()) {
    const std::string& eos = tokenizer_.eos_token();
    if (!verbatim_end || !text.ends_with(eos)) add(eos, true);
  }
  const std::string_view answer = std::string_view(text).substr(0, result.learned.back().end);
  result.ends_marked = std::ranges::any_of(
      special_texts_, [&](const std::string& special) { return answer.ends_with(special); });
  return result;
}

}  // namespace qlora::data
