#include "qlora/run/chat.h"

#include "qlora/text/stream_decoder.h"

#include <istream>
#include <ostream>

namespace qlora::run {
namespace {

// What a model without a chat template reads.
std::string plain_text(const Json& messages) {
  std::string text;
  for (const Json& message : messages) {
    if (!text.empty()) text += '\n';
    text += message.at("content").get<std::string>();
  }
  return text;
}

}  // namespace

TokenIds encode_text(const text::Tokenizer& tokenizer, std::string_view text) {
  TokenIds ids;
  if (tokenizer.add_bos() && tokenizer.bos()) ids.push_back(*tokenizer.bos());
  const TokenIds rest = tokenizer.encode(text);
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

Json conversation(const std::string& system, const std::string& user) {
  Json messages = Json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  messages.push_back({{"role", "user"}, {"content", user}});
  return messages;
}

ChatPrompt::ChatPrompt(const text::Tokenizer& tokenizer, const std::string& chat_template)
    : tokenizer_(tokenizer) {
  if (chat_template.empty()) return;
  template_ = text::ChatTemplate::parse(chat_template, "the model's chat template");
}

TokenIds ChatPrompt::encode(const Json& messages) const {
  if (!template_) return encode_text(tokenizer_, plain_text(messages));
  const auto options = text::render_options(tokenizer_, /*add_generation_prompt=*/true);
  return text::encode(tokenizer_, template_->render_traced(messages, options));
}

std::string stream_answer(const Session& session, const TokenIds& prompt,
                          const GenerationConfig& config, std::ostream& out, bool continues) {
  text::StreamDecoder decoder(*session.tokenizer, /*skip_special=*/true, continues);
  std::string answer;
  const auto emit = [&](const std::string& piece) {
    answer += piece;
    out << piece << std::flush;
  };
  generate(*session.model, {{prompt, 0}}, config, session.stop_ids,
           [&](std::size_t, std::int32_t id) { emit(decoder.push(id)); });
  emit(decoder.flush());
  return answer;
}

void chat(const Session& session, const GenerationConfig& config, const std::string& system,
          std::istream& in, std::ostream& out, std::ostream& hints) {
  const ChatPrompt prompt(*session.tokenizer, session.chat_template);
  Json messages;
  hints << "A line is a turn; /reset starts anew, /exit ends.\n";
  const auto ask = [&](std::string& line) {
    hints << "> " << std::flush;
    return static_cast<bool>(std::getline(in, line));
  };
  for (std::string line; ask(line) && line != "/exit";) {
    if (line == "/reset") messages = nullptr;
    if (line.empty() || line == "/reset") continue;
    if (messages.is_null()) {
      messages = conversation(system, line);
    } else {
      messages.push_back({{"role", "user"}, {"content", line}});
    }
    const std::string answer = stream_answer(session, prompt.encode(messages), config, out);
    out << std::endl;
    messages.push_back({{"role", "assistant"}, {"content", answer}});
  }
}

}  // namespace qlora::run
