#include "qlora/run/questions.h"

#include "qlora/base/file.h"

#include <algorithm>
#include <numeric>

namespace qlora::run {
namespace {

// The turns up to the user's last one.
Json messages_of(const Json& turns, const std::string& where) {
  if (!turns.is_array()) fail("{}: 'messages' is no list of turns", where);
  Json messages = turns;
  for (const Json& turn : messages) {
    if (!turn.is_object()) fail("{}: 'messages' holds something that is no turn", where);
    json_get<std::string>(turn, "role", where);
    json_get<std::string>(turn, "content", where);
  }
  while (!messages.empty() && messages.back().at("role") != "user") {
    messages.erase(messages.size() - 1);
  }
  if (messages.empty()) fail("{}: 'messages' has no turn of the user", where);
  return messages;
}

Question parse_question(const Json& row, const std::string& system, const std::string& where) {
  if (!row.is_object()) fail("{}: expected an object, one a line", where);
  Question question;
  if (row.contains("messages")) {
    question.messages = messages_of(row.at("messages"), where);
    if (!system.empty() && question.messages.front().at("role") != "system") {
      question.messages.insert(question.messages.begin(),
                               Json{{"role", "system"}, {"content", system}});
    }
  } else if (row.contains("instruction")) {
    std::string text = json_get<std::string>(row, "instruction", where);
    const auto input = json_get_or<std::string>(row, "input", "", where);
    if (!input.empty()) text += "\n\n" + input;
    question.messages = conversation(system, text);
  } else {
    fail("{}: expected a column 'messages' or 'instruction'; the row has {}", where,
         json_keys(row));
  }
  question.keywords = json_get_or<std::vector<std::string>>(row, "keywords", {}, where);
  return question;
}

std::string lower_ascii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// Prompts of like length side by side: a batch takes as long as its longest row.
std::vector<std::size_t> by_length(const std::vector<Prompt>& prompts) {
  std::vector<std::size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return prompts[a].ids.size() < prompts[b].ids.size();
  });
  return order;
}

}  // namespace

const std::string& Question::text() const {
  return messages.back().at("content").get_ref<const std::string&>();
}

std::vector<Question> read_questions(const std::filesystem::path& path, const std::string& system) {
  const std::string text = read_text(path);
  std::vector<Question> questions;
  std::int64_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const std::string where = fmt::format("{}:{}", path.string(), ++number);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    questions.push_back(parse_question(parse_json(line, where), system, where));
  }
  if (questions.empty()) fail("{}: holds no questions", path.string());
  return questions;
}

bool holds_all(std::string_view text, const std::vector<std::string>& keywords) {
  const std::string lower = lower_ascii(text);
  return std::all_of(keywords.begin(), keywords.end(), [&](const std::string& keyword) {
    return lower.find(lower_ascii(keyword)) != std::string::npos;
  });
}

Answers answer_questions(const Session& session, const std::vector<Question>& questions,
                         const GenerationConfig& config, std::int64_t batch_size) {
  const ChatPrompt chat_prompt(*session.tokenizer, session.chat_template);
  std::vector<Prompt> prompts;
  for (const Question& question : questions) {
    prompts.push_back({chat_prompt.encode(question.messages), prompts.size()});
  }
  Answers answers;
  answers.texts.resize(questions.size());
  const std::vector<std::size_t> order = by_length(prompts);
  for (std::size_t begin = 0; begin < order.size();) {
    const std::size_t end = std::min(order.size(), begin + static_cast<std::size_t>(batch_size));
    std::vector<Prompt> batch;
    for (std::size_t i = begin; i < end; ++i) batch.push_back(prompts[order[i]]);
    const auto batch_answers = generate(*session.model, batch, config, session.stop_ids);
    for (std::size_t i = begin; i < end; ++i) {
      answers.texts[order[i]] =
          session.tokenizer->decode(batch_answers[i - begin].ids, /*skip_special=*/true);
    }
    begin = end;
  }
  for (std::size_t i = 0; i < questions.size(); ++i) {
    if (questions[i].keywords.empty()) continue;
    ++answers.counted;
    if (holds_all(answers.texts[i], questions[i].keywords)) ++answers.right;
  }
  return answers;
}

}  // namespace qlora::run
