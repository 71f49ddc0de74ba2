#include "qlora/text/chat_template.h"

#include "text/jinja_eval.h"
#include "text/jinja_parser.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace qlora::text {

using jinja::Origin;
using jinja::Value;

struct ChatTemplate::Program {
  std::string where;
  jinja::Block block;
};

namespace {

// Message i has origin i + 1.
constexpr Origin kToolsOrigin = std::numeric_limits<Origin>::max();
constexpr std::size_t kMaxMessages = kToolsOrigin - 1;

bool is_plain_role(const Json& role) {
  if (!role.is_string()) return false;
  const auto& text = role.get_ref<const std::string&>();
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

Value message_value(const Json& message, Origin origin) {
  jinja::Pairs pairs;
  for (const auto& [key, item] : message.items()) {
    const Origin from = key == "role" && is_plain_role(item) ? jinja::kTemplate : origin;
    pairs.emplace_back(Value::string(jinja::Text(key, origin)), Value::from_json(item, from));
  }
  return Value::dict(std::move(pairs));
}

// Data and templates know a message's thoughts by several names; null without any.
const Json* thoughts_of(const Json& message) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const Json* const found = json_find(message, name);
    if (found != nullptr && !found->is_null()) return found;
  }
  return nullptr;
}

// With the two names that templates read (transformers 5, utils/chat_template_utils.py).
Json with_thoughts(const Json& message, const Json& thoughts) {
  Json named = message;
  if (!named.contains("thinking")) named["thinking"] = thoughts;
  named["reasoning_content"] = thoughts;
  return named;
}

Value messages_value(const Json& messages, const std::string& where) {
  if (!messages.is_array()) fail("{}: expected a list of messages", where);
  if (messages.size() > kMaxMessages) {
    fail("{}: {} messages in one conversation; at most {}", where, messages.size(), kMaxMessages);
  }
  jinja::Items items;
  for (const Json& message : messages) {
    if (!message.is_object()) fail("{}: a message is not an object", where);
    const auto origin = static_cast<Origin>(items.size() + 1);
    const Json* const thoughts = thoughts_of(message);
    items.push_back(thoughts == nullptr ? message_value(message, origin)
                                        : message_value(with_thoughts(message, *thoughts), origin));
  }
  return Value::list(std::move(items));
}

jinja::Pairs make_variables(const Json& messages, const RenderOptions& options,
                            const std::string& where) {
  jinja::Pairs variables;
  const auto add = [&variables](std::string name, Value value) {
    variables.emplace_back(Value::string(std::move(name)), std::move(value));
  };
  if (options.extra.is_object()) {
    for (const auto& [name, value] : options.extra.items()) {
      add(name, Value::from_json(value, jinja::kTemplate));
    }
  }
  add("messages", messages_value(messages, where));
  add("tools", Value::from_json(options.tools, kToolsOrigin));
  add("documents", Value::none());
  add("add_generation_prompt", Value::boolean(options.add_generation_prompt));
  add("bos_token", Value::string(options.bos_token));
  add("eos_token", Value::string(options.eos_token));
  return variables;
}

Rendered to_rendered(const jinja::Text& text) {
  Rendered rendered;
  rendered.text = text.bytes();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const Origin origin = text.origin(i);
    if (origin == jinja::kTemplate) continue;
    const std::int64_t message = origin == kToolsOrigin ? -1 : origin - 1;
    auto& parts = rendered.parts;
    if (!parts.empty() && parts.back().range.end == i && parts.back().message == message) {
      parts.back().range.end = i + 1;
    } else {
      parts.push_back({{i, i + 1}, message});
    }
  }
  return rendered;
}

}  // namespace

RenderOptions render_options(const Tokenizer& tokenizer, bool add_generation_prompt) {
  RenderOptions options;
  options.add_generation_prompt = add_generation_prompt;
  options.bos_token = tokenizer.bos_token();
  options.eos_token = tokenizer.eos_token();
  return options;
}

std::vector<TextRange> Rendered::plain() const {
  std::vector<TextRange> ranges;
  for (const RenderedPart& part : parts) ranges.push_back(part.range);
  return ranges;
}

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

ChatTemplate ChatTemplate::parse(const std::string& source, const std::string& where) {
  auto program = std::make_shared<Program>();
  program->where = where;
  program->block = jinja::parse_template(source, where);
  return ChatTemplate(std::move(program));
}

Rendered ChatTemplate::render_traced(const Json& messages, const RenderOptions& options) const {
  std::size_t own = kMaxRenderSteps;
  jinja::Interpreter interpreter(program_->block, program_->where,
                                 options.steps_left != nullptr ? *options.steps_left : own);
  try {
    return to_rendered(interpreter.render(make_variables(messages, options, program_->where)));
  } catch (const jinja::Failure& failure) {
    fail("{}: {}", program_->where, failure.what());
  }
}

std::string ChatTemplate::render(const Json& messages, const RenderOptions& options) const {
  return render_traced(messages, options).text;
}

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, const Rendered& rendered) {
  const std::vector<TextRange> plain = rendered.plain();
  return tokenizer.encode(rendered.text, plain);
}

}  // namespace qlora::text
