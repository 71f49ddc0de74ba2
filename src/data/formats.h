#pragma once
// Rows of the supported formats as what is said and what of it is learned.

#include "qlora/base/json.h"
#include "qlora/data/data_config.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>

namespace qlora::data {

// A conversation: the answers among messages[first_answer ...] are learned.
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
};

// Two texts that are tokenized as they are; the second is learned.
struct TextPair {
  std::string prompt;
  std::string completion;
};

using Example = std::variant<Conversation, Instruction, TextPair>;

// One format: a table row (formats.cpp) and a function.
struct Format {
  DataFormat format;
  std::string_view required[2];  // columns; the second may be empty
  Example (*read)(const Json& row, const std::string& where);
};

// The format that the config names, or that the columns of the first row fit. Throws Error.
const Format& find_format(DataFormat wanted, const Json& first_row, const std::string& where);

// Throws Error "where: ..." where a column is missing (names those that exist) or is of the wrong
// type.
Example read_example(const Format& format, const Json& row, const std::string& where);

Conversation to_conversation(const Instruction& instruction);

}  // namespace qlora::data
