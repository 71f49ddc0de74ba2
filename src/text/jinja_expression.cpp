// The expressions of a template; the grammar is that of Jinja 3.1.

#include "text/jinja_parser.h"

#include "qlora/base/error.h"

#include <algorithm>
#include <utility>

namespace qlora::text::jinja {
namespace {

// Deeper trees are refused: the parser and the interpreter recurse over them.
constexpr int kMaxDepth = 100;

}  // namespace

// One level of recursion of the parser.
class Nesting {
 public:
  explicit Nesting(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxDepth) {
      parser_.fail_at(parser_.current().line, "expressions nested too deep");
    }
  }
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  ExpressionParser& parser_;
};

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kMaxDepth) fail_at(parent.line, "an expression with too many operators");
  parent.parts.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::make(ExpressionKind kind, int line, ExpressionPtr first,
                                     ExpressionPtr second) {
  auto made = std::make_unique<Expression>();
  made->kind = kind;
  made->line = line;
  if (first) adopt(*made, std::move(first));
  if (second) adopt(*made, std::move(second));
  return made;
}

bool ExpressionParser::tuple_ends() const {
  return current().kind == TokenKind::block_end || current().kind == TokenKind::output_end ||
         at_symbol(")") || at_symbol("=") || at_name("recursive");
}

ExpressionPtr ExpressionParser::parse_tuple(bool conditional) {
  const int line = current().line;
  ExpressionPtr first = parse_expression(conditional);
  if (!at_symbol(",")) return first;
  ExpressionPtr tuple = make(ExpressionKind::tuple, line, std::move(first));
  while (skip_symbol(",") && !tuple_ends()) adopt(*tuple, parse_expression(conditional));
  return tuple;
}

ExpressionPtr ExpressionParser::parse_expression(bool conditional) {
  const Nesting level(*this);
  ExpressionPtr result = parse_or();
  while (conditional && at_name("if")) {
    const int line = take().line;
    ExpressionPtr condition = parse_or();
    result = make(ExpressionKind::condition, line, std::move(result), std::move(condition));
    adopt(*result, skip_name("else") ? parse_expression() : nullptr);
  }
  return result;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (at_name("or")) {
    const int line = take().line;
    left = make(ExpressionKind::disjunction, line, std::move(left), parse_and());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (at_name("and")) {
    const int line = take().line;
    left = make(ExpressionKind::conjunction, line, std::move(left), parse_not());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!at_name("not")) return parse_comparison();
  const Nesting level(*this);
  const int line = take().line;
  return make(ExpressionKind::negation, line, parse_not());
}

ExpressionPtr ExpressionParser::parse_comparison() {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  ExpressionPtr left = parse_sum();
  ExpressionPtr chain;
  while (true) {
    std::string name;
    const Token& token = current();
    if (token.kind == TokenKind::symbol &&
        std::ranges::find(kOperators, token.text) != std::end(kOperators)) {
      name = token.text;
    } else if (at_name("in")) {
      name = "in";
    } else if (at_name("not") && ahead().kind == TokenKind::name && ahead().text == "in") {
      take();
      name = "not in";
    } else {
      break;
    }
    const int line = take().line;
    if (!chain) chain = make(ExpressionKind::comparison, line, std::move(left));
    chain->operators.push_back(name);
    adopt(*chain, parse_sum());
  }
  return chain ? std::move(chain) : std::move(left);
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (at_symbol("+") || at_symbol("-")) {
    const Token op = take();
    left = make(ExpressionKind::binary, op.line, std::move(left), parse_concat());
    left->name = op.text;
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!at_symbol("~")) return first;
  ExpressionPtr joined = make(ExpressionKind::concat, current().line, std::move(first));
  while (skip_symbol("~")) adopt(*joined, parse_product());
  return joined;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (at_symbol("*") || at_symbol("/") || at_symbol("//") || at_symbol("%")) {
    const Token op = take();
    left = make(ExpressionKind::binary, op.line, std::move(left), parse_power());
    left->name = op.text;
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (at_symbol("**")) {
    const Token op = take();
    left = make(ExpressionKind::binary, op.line, std::move(left), parse_unary(true));
    left->name = op.text;
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nesting level(*this);
  ExpressionPtr result;
  if (at_symbol("-") || at_symbol("+")) {
    const Token op = take();
    const auto kind = op.text == "-" ? ExpressionKind::minus : ExpressionKind::plus;
    result = make(kind, op.line, parse_unary(false));
  } else {
    result = parse_primary();
  }
  result = parse_postfix(std::move(result));
  return with_filters ? parse_filters_and_tests(std::move(result)) : std::move(result);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = current();
  switch (token.kind) {
    case TokenKind::name: return parse_name();
    case TokenKind::string: return parse_string();
    case TokenKind::integer:
    case TokenKind::real: {
      ExpressionPtr number = make(ExpressionKind::literal, token.line);
      number->value = token.kind == TokenKind::integer ? Value::integer(token.integer)
                                                       : Value::real(token.real);
      take();
      return number;
    }
    default: break;
  }
  if (at_symbol("[")) return parse_list();
  if (at_symbol("{")) return parse_dict();
  if (!at_symbol("(")) fail_unexpected("an expression");
  const int line = take().line;
  ExpressionPtr inside = at_symbol(")") ? make(ExpressionKind::tuple, line) : parse_tuple();
  expect_symbol(")");
  return inside;
}

ExpressionPtr ExpressionParser::parse_name() {
  const Token token = take();
  ExpressionPtr made = make(ExpressionKind::literal, token.line);
  if (token.text == "true" || token.text == "True") {
    made->value = Value::boolean(true);
  } else if (token.text == "false" || token.text == "False") {
    made->value = Value::boolean(false);
  } else if (token.text == "none" || token.text == "None") {
    made->value = Value::none();
  } else {
    made->kind = ExpressionKind::name;
    made->name = token.text;
    named_.insert(token.text);
  }
  return made;
}

ExpressionPtr ExpressionParser::parse_string() {
  ExpressionPtr made = make(ExpressionKind::literal, current().line);
  std::string text;
  while (current().kind == TokenKind::string) text += take().text;
  made->value = Value::string(std::move(text));
  return made;
}

ExpressionPtr ExpressionParser::parse_list() {
  ExpressionPtr list = make(ExpressionKind::list, take().line);
  while (!at_symbol("]")) {
    if (!list->parts.empty()) expect_symbol(",");
    if (at_symbol("]")) break;
    adopt(*list, parse_expression());
  }
  expect_symbol("]");
  return list;
}

ExpressionPtr ExpressionParser::parse_dict() {
  ExpressionPtr dict = make(ExpressionKind::dict, take().line);
  while (!at_symbol("}")) {
    if (!dict->parts.empty()) expect_symbol(",");
    if (at_symbol("}")) break;
    adopt(*dict, parse_expression());
    expect_symbol(":");
    adopt(*dict, parse_expression());
  }
  expect_symbol("}");
  return dict;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr subject) {
  while (true) {
    if (at_symbol(".")) {
      subject = parse_attribute(std::move(subject));
    } else if (at_symbol("[")) {
      subject = parse_item(std::move(subject));
    } else if (at_symbol("(")) {
      subject = make(ExpressionKind::call, current().line, std::move(subject));
      parse_arguments(*subject);
    } else {
      return subject;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr subject) {
  while (true) {
    if (skip_symbol("|")) {
      subject = parse_filter(std::move(subject));
    } else if (at_name("is")) {
      subject = parse_test(std::move(subject));
    } else if (at_symbol("(")) {
      subject = make(ExpressionKind::call, current().line, std::move(subject));
      parse_arguments(*subject);
    } else {
      return subject;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr subject) {
  do {
    subject = parse_filter(std::move(subject));
  } while (skip_symbol("|"));
  return subject;
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr subject) {
  ExpressionPtr filter = make(ExpressionKind::filter, current().line);
  filter->name = take_name();
  adopt(*filter, std::move(subject));
  if (at_symbol("(")) parse_arguments(*filter);
  return filter;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr subject) {
  const int line = take().line;
  const bool negated = skip_name("not");
  ExpressionPtr test = make(ExpressionKind::test, line, std::move(subject));
  test->name = take_name();
  if (at_symbol("(")) {
    parse_arguments(*test);
  } else {
    const Token& next = current();
    const bool operand = next.kind == TokenKind::string || next.kind == TokenKind::integer ||
                         next.kind == TokenKind::real || at_symbol("[") || at_symbol("{");
    const bool name = next.kind == TokenKind::name && next.text != "else" && next.text != "or" &&
                      next.text != "and" && next.text != "is";
    if (operand || name) {
      ExpressionPtr argument = parse_postfix(parse_primary());
      test->depth = std::max(test->depth, argument->depth + 1);
      test->arguments.push_back(std::move(argument));
    }
  }
  return negated ? make(ExpressionKind::negation, line, std::move(test)) : std::move(test);
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr subject) {
  const int line = take().line;
  const Token& token = current();
  if (token.kind != TokenKind::integer) {
    ExpressionPtr attribute = make(ExpressionKind::attribute, line, std::move(subject));
    attribute->name = take_name();
    return attribute;
  }
  ExpressionPtr index = make(ExpressionKind::literal, line);
  index->value = Value::integer(take().integer);
  return make(ExpressionKind::item, line, std::move(subject), std::move(index));
}

ExpressionPtr ExpressionParser::parse_item(ExpressionPtr subject) {
  const int line = take().line;
  ExpressionPtr item = make(ExpressionKind::item, line, std::move(subject), parse_subscript());
  expect_symbol("]");
  return item;
}

ExpressionPtr ExpressionParser::parse_subscript() {
  const int line = current().line;
  const auto bound = [this]() -> ExpressionPtr {
    return at_symbol(":") || at_symbol("]") ? nullptr : parse_expression();
  };
  if (at_symbol("]")) fail_unexpected("an index");
  ExpressionPtr start = bound();
  if (!at_symbol(":")) return start;
  ExpressionPtr slice = make(ExpressionKind::slice, line);
  adopt(*slice, std::move(start));
  for (int i = 0; i < 2; ++i) adopt(*slice, skip_symbol(":") ? bound() : nullptr);
  return slice;
}

void ExpressionParser::parse_arguments(Expression& call) {
  expect_symbol("(");
  while (!at_symbol(")")) {
    ExpressionPtr* place = nullptr;
    if (current().kind == TokenKind::name && ahead().kind == TokenKind::symbol &&
        ahead().text == "=") {
      call.keywords.emplace_back(take_name(), nullptr);
      expect_symbol("=");
      place = &call.keywords.back().second;
    } else {
      if (!call.keywords.empty()) fail_at(call.line, "a positional argument follows a named one");
      place = &call.arguments.emplace_back();
    }
    *place = parse_expression();
    call.depth = std::max(call.depth, (*place)->depth + 1);
    if (!at_symbol(")")) expect_symbol(",");
  }
  expect_symbol(")");
}

}  // namespace qlora::text::jinja
