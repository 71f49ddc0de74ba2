#pragma once
// Rows of the supported formats as what is said and what of it is learned.

#include "qlora/base/json.h"
#include "qlora/data/data_config.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qlora::data {

// A conversation: the answers among messages[first_answer ...] are learned. Tool calls have the
// shape that chat templates expect: {"type": "function", "function": {"name", "arguments": {}}}.
struct Conversation {
  Json messages;
  Json tools;
  std::size_t first_answer = 0;
};

// An instruction, which a model without a chat template reads as Stanford Alpaca's prompt.
struct Instruction {
  std::string instruction;
  std::string input;
  std::string output;
  // LLaMA-Factory's columns: the system's turn, and earlier questions with their answers.
  std::string system = {};
  std::vector<std::pair<std::string, std::string>> history = {};
};

// Texts side by side that no chat template writes.
struct TextPart {
  std::string text;
  bool learned = false;
  bool verbatim = false;  // special tokens in it are meant as such
};
struct PlainText {
  std::vector<TextPart> parts;
};

// Tokens as they are to be learned: labels[i] is ids[i] or kNotLearned.
struct Tokens {
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> labels;
};

// A text and the name of its class.
struct ClassifiedText {
  std::string text;
  std::string label;
};

using Example = std::variant<Conversation, Instruction, PlainText, Tokens, ClassifiedText>;

// One format: a table row (formats.cpp) and a function.
struct Format {
  DataFormat format;
  std::string_view required[2];  // columns; the second may be empty
  std::vector<Example> (*read)(const Format& format, const Json& row, const std::string& where);
  bool has_instructions = false;  // every example is an Instruction
};

// The format that the config names, if the row has its columns, or any that the columns fit; null
// where none does.
const Format* fitting_format(DataFormat wanted, const Json& row);

// The format that the config names, or that the columns fit. Throws RowError where none does, and
// Error for rows of preferences (chosen and rejected answers), which are not to be learned as one.
const Format& find_format(DataFormat wanted, const Json& row, const std::string& where);

// What a row holds, which is more than one example where it has several instances. Throws RowError
// "where: ..." where a column is missing (names those that exist), of the wrong type, or its roles
// are out of order.
std::vector<Example> read_examples(const Format& format, const Json& row, const std::string& where);

Conversation to_conversation(const Instruction& instruction);

}  // namespace qlora::data
