#include "data/chat_labels.h"

#include "data/conversations.h"

#include <algorithm>
#include <utility>

namespace qlora::data {
namespace {

using text::Rendered;
using text::TextRange;

// The part of `message` with the first byte; null where the template left the message out.
const text::RenderedPart* first_part(const Rendered& rendered, std::int64_t message) {
  const auto found = std::ranges::find(rendered.parts, message, &text::RenderedPart::message);
  return found == rendered.parts.end() ? nullptr : &*found;
}

// Where what others said stops before byte `limit`, and who said it last.
std::pair<std::size_t, std::int64_t> said_before(const Rendered& rendered, std::int64_t message,
                                                 std::size_t limit) {
  std::pair<std::size_t, std::int64_t> last{0, -2};  // -1 is a tool's
  for (const text::RenderedPart& part : rendered.parts) {
    if (part.message < message && part.range.end <= limit) last = {part.range.end, part.message};
  }
  return last;
}

std::string_view text_of(const Rendered& rendered, const text::RenderedPart& part) {
  return std::string_view(rendered.text)
      .substr(part.range.begin, part.range.end - part.range.begin);
}

// All that came from the message.
std::string words_of(const Rendered& rendered, std::int64_t message) {
  std::string words;
  for (const text::RenderedPart& part : rendered.parts) {
    if (part.message == message) words += text_of(rendered, part);
  }
  return words;
}

std::size_t later_byte(const Rendered& whole, std::int64_t message, std::size_t from) {
  for (const text::RenderedPart& part : whole.parts) {
    if (part.message > message && part.range.begin >= from) return part.range.begin;
  }
  return whole.text.size();
}

bool writes_calls(std::string_view said, const Json& message) {
  const Json* const calls = json_find(message, "tool_calls");
  return calls == nullptr || std::ranges::all_of(*calls, [said](const Json& call) {
           const auto& name = call.at("function").at("name").get_ref<const std::string&>();
           return said.find(name) != std::string_view::npos;
         });
}

bool has_words(const Json& message) {
  const Json* const content = json_find(message, "content");
  return content != nullptr && content->is_string() &&
         content->get_ref<const std::string&>().find_first_not_of(" \t\r\n") != std::string::npos;
}

// Ascending, and joined where a template writes one turn inside another.
std::vector<TextRange> disjoint(std::vector<TextRange> ranges) {
  std::ranges::sort(ranges, {}, &TextRange::begin);
  std::vector<TextRange> joined;
  for (const TextRange range : ranges) {
    if (joined.empty() || range.begin >= joined.back().end) {
      joined.push_back(range);
    } else {
      joined.back().end = std::max(joined.back().end, range.end);
    }
  }
  return joined;
}

std::size_t written_size(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace).size();  // may be no UTF-8
}

// What rendering the conversation twice for each of its messages may take: many times what a real
// template does with so much text, and the work of one render besides. A costly template has to pay
// for all of its renders from this.
std::size_t steps_for(const Conversation& conversation) {
  constexpr std::size_t kStepsOfMessage = 2000;
  constexpr std::size_t kStepsOfByte = 4;
  const std::size_t count = conversation.messages.size();
  const std::size_t bytes = written_size(conversation.messages) + written_size(conversation.tools);
  return text::kMaxRenderSteps + 2 * count * (kStepsOfMessage * count + kStepsOfByte * bytes);
}

std::size_t last_answer(const Json& messages) {
  std::size_t last = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].at("role") == "assistant") last = i;
  }
  return last;
}

}  // namespace

LabelOptions label_options(const DataConfig& config) {
  LabelOptions options;
  if (config.chat_template) {
    options.chat_template = text::find_chat_template(*config.chat_template, "data.chat_template");
  }
  options.train_on_inputs = config.train_on_inputs;
  options.train_on_eos = config.train_on_eos;
  options.mask_history = config.mask_history;
  return options;
}

Labeller::Labeller(const text::Tokenizer& tokenizer, LabelOptions options)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      instruction_template_(PromptTemplate::parse("alpaca", "instruction template")) {
  for (std::int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto token = static_cast<std::int32_t>(id);
    if (tokenizer.is_special(token)) special_texts_.push_back(tokenizer.token_bytes(token));
  }
  std::erase(special_texts_, "");
  const bool own = options_.chat_template.empty();
  const std::string& source = own ? tokenizer.chat_template() : options_.chat_template;
  if (source.empty()) return;
  template_ = std::make_unique<const text::ChatTemplate>(
      text::ChatTemplate::parse(source, own ? "chat template" : "data.chat_template"));
  const Json plain = Json::array(
      {Json{{"role", "user"}, {"content", "q"}}, Json{{"role", "assistant"}, {"content", "a"}}});
  const Conversation turn{plain, nullptr, 0};
  Work work{turn, text::kMaxRenderSteps};
  const auto rendered = render_start(work, plain.size(), false);
  const text::RenderedPart* const answer = rendered ? first_part(*rendered, 1) : nullptr;
  if (answer == nullptr) return;
  const std::string_view tail = std::string_view(rendered->text).substr(answer->range.end);
  if (const auto mark = find_special(tail)) {
    turn_end_ = tail.substr(mark->begin, run_of_specials(tail.substr(mark->begin)));
  }
}

LabelledText Labeller::label(const Example& example) const {
  if (const auto* text = std::get_if<PlainText>(&example)) return label_text(*text);
  if (const auto* instruction = std::get_if<Instruction>(&example)) {
    if (template_) return label_conversation(to_conversation(*instruction));
    if (!instruction->system.empty() || !instruction->history.empty()) {
      fail(
          "the model has no chat template for a system's turn and a history; set "
          "data.chat_template");
    }
    return label_text(instruction_template_.fill(columns_of(*instruction), "row"));
  }
  const auto* conversation = std::get_if<Conversation>(&example);
  if (conversation == nullptr) fail("a row of tokens or classes has no text to label");
  if (!template_) {
    fail(
        "the model has no chat template for conversations; set data.chat_template, or use rows "
        "of prompt and completion, or instruction and output");
  }
  return label_conversation(*conversation);
}

// The first `count` messages by themselves; nothing where the template refuses so short a
// conversation.
std::optional<Rendered> Labeller::render_start(Work& work, std::size_t count, bool prompt) const {
  text::RenderOptions options = text::render_options(tokenizer_, prompt);
  options.tools = work.conversation.tools;
  options.steps_left = &work.steps_left;
  const Json& all = work.conversation.messages;
  const Json messages(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
  try {
    return template_->render_traced(messages, options);
  } catch (const Error&) {
    if (work.steps_left == 0) throw;
    return std::nullopt;
  }
}

// The special token that starts first, and of these the longest.
std::optional<TextRange> Labeller::find_special(std::string_view text) const {
  TextRange range{std::string_view::npos, 0};
  for (const std::string& special : special_texts_) {
    const std::size_t found = text.find(special);
    if (found == std::string_view::npos || found > range.begin) continue;
    range = {found, std::max(found == range.begin ? range.end : 0, found + special.size())};
  }
  if (range.begin == std::string_view::npos) return std::nullopt;
  return range;
}

// Bytes of the special tokens that a text starts with.
std::size_t Labeller::run_of_specials(std::string_view text) const {
  std::size_t end = 0;
  for (auto next = find_special(text); next && next->begin == 0;) {
    end += next->end;
    next = find_special(text.substr(end));
  }
  return end;
}

// The end of the turn in what the template wrote behind an answer: the tokens that end plain
// answers, as others before them may end a tool call, or any special token; empty where there is
// none.
TextRange Labeller::find_end_mark(std::string_view text) const {
  const std::size_t found = turn_end_.empty() ? std::string_view::npos : text.find(turn_end_);
  if (found != std::string_view::npos) return {found, found + turn_end_.size()};
  return find_special(text).value_or(TextRange{0, 0});
}

// Where the answer whose own first byte is `first` starts, which is behind what the prompt ends
// with. A template may write earlier turns in another way once later ones follow (thoughts, tools
// before the last question), so compared is only what stands between the turn before and `first`.
std::size_t Labeller::header_end(const Rendered& whole, std::int64_t message,
                                 const std::optional<Rendered>& prompt, std::size_t first) const {
  if (!prompt) return first;
  const auto [gap_begin, speaker] = said_before(whole, message, first);
  const auto [header_begin, last] = said_before(*prompt, message, prompt->text.size());
  if (speaker != last) return first;
  const std::string_view header = std::string_view(prompt->text).substr(header_begin);
  const std::string_view gap = std::string_view(whole.text).substr(gap_begin, first - gap_begin);
  const auto common =
      static_cast<std::size_t>(std::ranges::mismatch(header, gap).in2 - gap.begin());
  if (common == header.size() || common == gap.size()) return gap_begin + common;
  // Both have a header and differ in what opens the answer ("<think>", "<tool_call>").
  std::size_t shared = 0;
  for (std::string_view rest = gap.substr(0, common); !rest.empty();) {
    const std::size_t line_end = rest.find('\n');
    const auto special = find_special(rest);
    const std::size_t end = std::min(line_end == std::string_view::npos ? line_end : line_end + 1,
                                     special ? special->end : std::string_view::npos);
    if (end == std::string_view::npos) break;
    shared += end;
    rest.remove_prefix(end);
  }
  return shared == 0 ? first : gap_begin + shared;
}

// Nothing where the template leaves the answer out.
std::optional<Labeller::Answer> Labeller::find_answer(Work& work, std::size_t message,
                                                      const Rendered& whole) const {
  const auto number = static_cast<std::int64_t>(message);
  const text::RenderedPart* const part = first_part(whole, number);
  if (part == nullptr && has_words(work.conversation.messages[message])) return std::nullopt;
  const auto prompt = render_start(work, message, true);
  Answer answer;
  if (prompt && whole.text.starts_with(prompt->text) &&
      (part == nullptr || prompt->text.size() <= part->range.begin)) {
    answer.begin = prompt->text.size();
  } else if (part != nullptr) {
    answer.begin = header_end(whole, number, prompt, part->range.begin);
  } else {
    return std::nullopt;
  }
  answer.end = part == nullptr ? answer.begin : part->range.end;
  const auto start = render_start(work, message + 1, false);
  const std::size_t limit =
      start && whole.text.starts_with(start->text) && start->text.size() >= answer.end
          ? start->text.size()
          : later_byte(whole, number, answer.end);
  const std::string words = start ? words_of(*start, number) : "";
  std::size_t spoken = 0;
  for (const text::RenderedPart& said : whole.parts) {
    if (said.message != number || said.range.end > limit) continue;
    // With a tool's reply a template may write the name of the call again.
    const std::size_t found = words.find(text_of(whole, said), spoken);
    if (start && found == std::string::npos && said.range.begin >= answer.end) break;
    if (found != std::string::npos) spoken = found + said.range.end - said.range.begin;
    answer.end = said.range.end;
  }
  const TextRange mark =
      find_end_mark(std::string_view(whole.text).substr(answer.end, limit - answer.end));
  answer.mark_end = answer.end + mark.end;
  answer.end += mark.begin;
  return answer;
}

LabelledText Labeller::label_conversation(const Conversation& conversation) const {
  text::RenderOptions options = text::render_options(tokenizer_, false);
  options.tools = conversation.tools;
  Work work{conversation, steps_for(conversation)};
  options.steps_left = &work.steps_left;
  LabelledText result;
  result.rendered = template_->render_traced(conversation.messages, options);
  const Rendered& whole = result.rendered;
  const Json& messages = conversation.messages;
  const std::size_t last = last_answer(messages);
  const std::size_t first =
      options_.mask_history ? std::max(last, conversation.first_answer) : conversation.first_answer;
  for (std::size_t i = first; i < messages.size(); ++i) {
    if (messages[i].at("role") != "assistant" || !is_learned(messages[i])) continue;
    const auto answer = find_answer(work, i, whole);
    if (!answer) continue;
    const bool says_all = writes_calls(
        std::string_view(whole.text).substr(answer->begin, answer->end - answer->begin),
        messages[i]);
    result.calls_written = result.calls_written && says_all;
    if (!says_all && first_part(whole, static_cast<std::int64_t>(i)) == nullptr) continue;
    const bool with_end = options_.train_on_eos != TrainOnEos::None &&
                          (options_.train_on_eos != TrainOnEos::Last || i == last);
    result.ends_marked = result.ends_marked && answer->mark_end > answer->end;
    result.learned.push_back({answer->begin, with_end ? answer->mark_end : answer->end});
  }
  if (options_.train_on_eos == TrainOnEos::All) add_other_ends(result);
  result.learned = disjoint(std::move(result.learned));
  if (options_.train_on_inputs && !result.learned.empty()) {
    result.learned = {{0, whole.text.size()}};
  }
  return result;
}

// The ends of turns that nobody learns to say.
void Labeller::add_other_ends(LabelledText& labelled) const {
  const std::string_view text = labelled.rendered.text;
  if (turn_end_.empty() || labelled.learned.empty()) return;
  const auto touches = [](const std::vector<TextRange>& ranges, TextRange range) {
    return std::ranges::any_of(ranges, [range](const TextRange& other) {
      return other.begin < range.end && other.end > range.begin;
    });
  };
  const std::vector<TextRange> plain = labelled.rendered.plain();
  for (std::size_t at = text.find(turn_end_); at != std::string_view::npos;
       at = text.find(turn_end_, at + 1)) {
    const TextRange mark{at, at + turn_end_.size()};
    if (!touches(plain, mark) && !touches(labelled.learned, mark)) labelled.learned.push_back(mark);
  }
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
  const bool says_something = std::ranges::any_of(plain.parts, &TextPart::learned);
  bool verbatim_start = true;
  bool verbatim_end = true;
  for (const TextPart& part : plain.parts) {
    if (part.text.empty()) continue;
    if (text.empty()) verbatim_start = part.verbatim;
    verbatim_end = part.verbatim;
    if (!part.verbatim) {
      result.rendered.parts.push_back({{text.size(), text.size() + part.text.size()}, 0});
    }
    add(part.text, part.learned || (options_.train_on_inputs && says_something));
  }
  const std::string& bos = tokenizer_.bos_token();
  result.starts_with_bos = bos.empty() || !verbatim_start || !text.starts_with(bos);
  if (result.learned.empty()) return result;
  const std::string& eos = tokenizer_.eos_token();
  const bool ends_learned = result.learned.back().end == text.size();
  const bool has_eos = verbatim_end && text.ends_with(eos);
  const bool learns_eos = options_.train_on_eos != TrainOnEos::None;
  if (ends_learned && !has_eos) add(eos, learns_eos);
  if (ends_learned && has_eos && !learns_eos) result.learned.back().end -= eos.size();
  const std::string_view answer =
      std::string_view(text).substr(0, ends_learned ? text.size() : result.learned.back().end);
  result.ends_marked = std::ranges::any_of(
      special_texts_, [&](const std::string& special) { return answer.ends_with(special); });
  return result;
}

}  // namespace qlora::data
