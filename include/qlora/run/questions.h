#pragma once
// A file of questions with the words that a right answer holds: what a model knows, counted.

#include "qlora/run/chat.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace qlora::run {

struct Question {
  Json messages;                      // ends with the user's turn
  std::vector<std::string> keywords;  // all of them in a right answer; empty: not counted

  const std::string& text() const;  // of the user's last turn
};

// JSONL; a row has `messages` (up to the last user turn counts), or `instruction` and maybe
// `input`; and maybe `keywords`, a list of texts. `system`, where not empty, is put before a
// conversation that has none. Throws Error with file, line and the columns found.
std::vector<Question> read_questions(const std::filesystem::path& path, const std::string& system);

// Whether every keyword is part of the text; ASCII letters compare without case.
bool holds_all(std::string_view text, const std::vector<std::string>& keywords);

struct Answers {
  std::vector<std::string> texts;  // one for each question
  std::int64_t counted = 0;        // questions with keywords
  std::int64_t right = 0;          // of these
};

// Answers all questions, `batch_size` at a time.
Answers answer_questions(const Session& session, const std::vector<Question>& questions,
                         const GenerationConfig& config, std::int64_t batch_size);

}  // namespace qlora::run
