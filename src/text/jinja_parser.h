#pragma once
// From a template's source to its syntax tree, by recursive descent, with Jinja's precedence.

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text::jinja {

// Throws Error "where:line: ..." where the source is not of the supported subset.
Block parse_template(std::string_view source, std::string_view where);

// The expressions of a template. Not for use outside the parser's two files.
class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, std::string_view where)
      : tokens_(std::move(tokens)), where_(where) {}

 protected:
  const Token& current() const { return tokens_[position_]; }
  const Token& ahead() const;
  Token take();
  bool at_symbol(std::string_view symbol) const;
  bool at_name(std::string_view name) const;
  bool skip_symbol(std::string_view symbol);
  bool skip_name(std::string_view name);
  void expect_symbol(std::string_view symbol);
  void expect_name(std::string_view name);
  void expect(TokenKind kind, std::string_view what);
  std::string take_name();
  [[noreturn]] void fail_at(int line, std::string_view what) const;
  [[noreturn]] void fail_unexpected(std::string_view expected) const;

  // One expression, or a tuple where commas follow.
  ExpressionPtr parse_tuple(bool conditional = true);
  ExpressionPtr parse_expression(bool conditional = true);
  // name(arguments) | name ...; `subject` may be null.
  ExpressionPtr parse_filters(ExpressionPtr subject);

  // Names of variables since the set was last emptied.
  std::set<std::string> named_;

 private:
  friend class Nesting;
  ExpressionPtr make(ExpressionKind kind, int line, ExpressionPtr first = nullptr,
                     ExpressionPtr second = nullptr);
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_string();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr subject);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr subject);
  ExpressionPtr parse_filter(ExpressionPtr subject);
  ExpressionPtr parse_test(ExpressionPtr subject);
  ExpressionPtr parse_attribute(ExpressionPtr subject);
  ExpressionPtr parse_item(ExpressionPtr subject);
  ExpressionPtr parse_subscript();
  void parse_arguments(Expression& call);
  void adopt(Expression& parent, ExpressionPtr child);
  bool tuple_ends() const;

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int nesting_ = 0;

 protected:
  std::string_view where_;
};

}  // namespace qlora::text::jinja
