#pragma once
// Prompts without a chat template: a text with the names of columns in braces.
//
//   ### Instruction:\n{instruction}\n\n### Response:\n{output}
//
// Learned is what stands between {% generation %} and {% endgeneration %}, as in chat templates of
// transformers; without these marks, everything from the last column on. {{ and }} are braces.

#include "data/formats.h"

#include <string>
#include <string_view>
#include <vector>

namespace qlora::data {

class PromptTemplate {
 public:
  // A template's text, or the name of a built-in one: alpaca (Stanford Alpaca's two prompts, with
  // and without an input) or dolly. Throws Error "where: ..." where it is neither.
  static PromptTemplate parse(std::string_view text, std::string_view where);

  // The prompt with the columns' values, in which special tokens are but characters. Nothing is
  // learned where every learned column is empty. Throws RowError "where: ..." where a column is
  // missing or holds a list.
  PlainText fill(const Json& columns, const std::string& where) const;

 private:
  struct Piece {
    std::string text;  // as it stands, or a column's name
    bool is_column = false;
    bool learned = false;
  };
  class Parser;

  std::vector<Piece> pieces_;
  std::vector<Piece> without_input_;  // where column "input" is empty; empty: the same
};

// The columns that a template may name for an instruction.
Json columns_of(const Instruction& instruction);

}  // namespace qlora::data
