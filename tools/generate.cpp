// Text from a model: one answer, a conversation, or a file of questions.

#include "qlora/base/log.h"
#include "qlora/config/command_line.h"
#include "qlora/run/questions.h"
#include "qlora/tensor/bridge.h"

#include <iostream>

namespace {

using namespace qlora;

struct GenerateArguments {
  run::SessionOptions session;
  run::GenerationConfig generation;
  std::string prompt, system, questions;
  bool raw = false;
  std::int64_t show = 3, batch_size = 32;

  template <class V>
  void visit(V&& v) {
    session.visit(v);
    v.field("prompt", prompt, "what to answer; without it and --questions, a conversation");
    v.field("raw", raw, "continue the prompt as it stands, without the chat template");
    v.field("system", system, "system message of the conversation");
    v.field("questions", questions, "JSONL file of questions, answered in batches and counted");
    v.field("show", show, "with --questions: how many answers to print", at_least(0));
    v.field("batch_size", batch_size, "with --questions: answers at a time", at_least(1));
    generation.visit(v);
    v.check(prompt.empty() || questions.empty(), "questions", "given together with --prompt");
    v.check(!raw || !prompt.empty(), "raw", "needs --prompt");
    v.check(!raw || system.empty(), "system", "has no place in a --raw prompt");
  }
};

void answer_file(const run::Session& session, const GenerateArguments& arguments) {
  const auto questions = run::read_questions(arguments.questions, arguments.system);
  const auto answers =
      run::answer_questions(session, questions, arguments.generation, arguments.batch_size);
  const std::size_t shown = std::min(questions.size(), static_cast<std::size_t>(arguments.show));
  for (std::size_t i = 0; i < shown; ++i) {
    fmt::print("question: {}\nanswer: {}\n\n", questions[i].text(), answers.texts[i]);
  }
  if (answers.counted > 0) fmt::print("{} of {} right\n", answers.right, answers.counted);
}

int generate(const GenerateArguments& arguments) {
  tensor::share_torch_threads();
  const run::Session session = run::open_session(arguments.session);
  if (!arguments.questions.empty()) {
    answer_file(session, arguments);
  } else if (arguments.prompt.empty()) {
    run::chat(session, arguments.generation, arguments.system, std::cin, std::cout, std::cerr);
  } else if (arguments.raw) {
    run::stream_answer(session, run::encode_text(*session.tokenizer, arguments.prompt),
                       arguments.generation, std::cout, /*continues=*/true);
  } else {
    const run::ChatPrompt chat(*session.tokenizer, session.chat_template);
    const Json messages = run::conversation(arguments.system, arguments.prompt);
    run::stream_answer(session, chat.encode(messages), arguments.generation, std::cout);
    std::cout << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return config::run_main<GenerateArguments>(
      argc, argv,
      {"Generates text with a model, and with an adapter on it.",
       "Greedy unless --temperature is above 0. The text goes to standard output as it comes."},
      generate);
}
