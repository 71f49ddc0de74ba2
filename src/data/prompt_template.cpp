#include "data/prompt_template.h"

#include "data/row_error.h"

#include <algorithm>
#include <utility>

namespace qlora::data {
namespace {

constexpr std::string_view kBegin = "{% generation %}";
constexpr std::string_view kEnd = "{% endgeneration %}";

struct NamedTemplate {
  std::string_view name;
  std::string_view text;
  std::string_view without_input;  // empty: the same
};

constexpr NamedTemplate kNamed[] = {
    // https://github.com/tatsu-lab/stanford_alpaca, train.py
    {"alpaca",
     "Below is an instruction that describes a task, paired with an input that provides further "
     "context. Write a response that appropriately completes the request.\n\n"
     "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}",
     "Below is an instruction that describes a task. Write a response that appropriately "
     "completes the request.\n\n"
     "### Instruction:\n{instruction}\n\n### Response:\n{output}"},
    // The usual prompt of tutorials on databricks-dolly-15k, which keeps an empty input.
    {"dolly", "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}",
     ""},
};

}  // namespace

class PromptTemplate::Parser {
 public:
  Parser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  std::vector<Piece> parse() {
    while (next_ < text_.size()) {
      if (skip(kBegin)) {
        if (std::exchange(learning_, true)) refuse("is inside another one", kBegin);
        marked_ = true;
      } else if (skip(kEnd)) {
        if (!std::exchange(learning_, false)) refuse("ends nothing", kEnd);
      } else if (skip("{{")) {
        add_text('{');
      } else if (skip("}}")) {
        add_text('}');
      } else if (skip("{")) {
        add_column();
      } else if (text_[next_] == '}') {
        refuse("closes nothing; a brace is written twice", "}");
      } else {
        add_text(text_[next_++]);
      }
    }
    if (learning_) refuse("is not closed", kBegin);
    if (!marked_) learn_from_last_column();
    return std::move(pieces_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what, std::string_view token) const {
    fail("{}: {} {}", where_, token, what);
  }

  bool skip(std::string_view token) {
    if (!text_.substr(next_).starts_with(token)) return false;
    next_ += token.size();
    return true;
  }

  void add_text(char c) {
    const bool goes_on =
        !pieces_.empty() && !pieces_.back().is_column && pieces_.back().learned == learning_;
    if (!goes_on) pieces_.push_back({"", false, learning_});
    pieces_.back().text += c;
  }

  void add_column() {
    const std::size_t end = text_.find_first_of("{}", next_);
    if (end == std::string_view::npos || text_[end] == '{' || end == next_) {
      refuse("begins no column's name; a brace is written twice", "{");
    }
    pieces_.push_back({std::string(text_.substr(next_, end - next_)), true, learning_});
    next_ = end + 1;
  }

  void learn_from_last_column() {
    const auto last = std::ranges::find(pieces_.rbegin(), pieces_.rend(), true, &Piece::is_column);
    if (last == pieces_.rend()) {
      fail("{}: the template has no column; expected one in braces, such as {{output}}", where_);
    }
    for (auto piece = last.base() - 1; piece != pieces_.end(); ++piece) piece->learned = true;
  }

  std::string_view text_;
  std::string_view where_;
  std::size_t next_ = 0;
  bool learning_ = false;
  bool marked_ = false;
  std::vector<Piece> pieces_;
};

PromptTemplate PromptTemplate::parse(std::string_view text, std::string_view where) {
  PromptTemplate result;
  for (const NamedTemplate& named : kNamed) {
    if (named.name != text) continue;
    result.pieces_ = Parser(named.text, where).parse();
    if (!named.without_input.empty()) {
      result.without_input_ = Parser(named.without_input, where).parse();
    }
    return result;
  }
  if (text.find_first_of("{}") == std::string_view::npos) {
    fail("{}: no template is called '{}'; expected alpaca, dolly, or a text with columns in braces",
         where, text);
  }
  result.pieces_ = Parser(text, where).parse();
  return result;
}

PlainText PromptTemplate::fill(const Json& columns, const std::string& where) const {
  const Json* const input = json_find(columns, "input");
  const bool without = !without_input_.empty() && (input == nullptr || *input == "");
  PlainText result;
  bool says_something = false;
  for (const Piece& piece : without ? without_input_ : pieces_) {
    if (!piece.is_column) {
      result.parts.push_back({piece.text, piece.learned, true});
      continue;
    }
    const auto value = columns.find(piece.text);
    if (value == columns.end()) {
      fail_row(RowFault::MissingColumn,
               "{}: no column '{}', which the template names; the row has "
               "{}",
               where, piece.text, json_keys(columns));
    }
    if (value->is_structured()) {
      fail_row(RowFault::WrongType, "{}: '{}' is {}; expected a text or a number", where,
               piece.text, value->type_name());
    }
    std::string text = value->is_string() ? value->get<std::string>()
                       : value->is_null() ? ""
                                          : value->dump();
    says_something = says_something || (piece.learned && !text.empty());
    result.parts.push_back({std::move(text), piece.learned, false});
  }
  for (TextPart& part : result.parts) part.learned = part.learned && says_something;
  return result;
}

Json columns_of(const Instruction& instruction) {
  return {{"instruction", instruction.instruction},
          {"input", instruction.input},
          {"output", instruction.output}};
}

}  // namespace qlora::data
