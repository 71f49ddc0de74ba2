// The statements of a template, and the walk over its tokens.

#include "text/jinja_parser.h"

#include "qlora/base/error.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace qlora::text::jinja {

const Token& ExpressionParser::ahead() const {
  return tokens_[std::min(position_ + 1, tokens_.size() - 1)];
}

Token ExpressionParser::take() {
  Token token = current();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool ExpressionParser::at_symbol(std::string_view symbol) const {
  return current().kind == TokenKind::symbol && current().text == symbol;
}

bool ExpressionParser::at_name(std::string_view name) const {
  return current().kind == TokenKind::name && current().text == name;
}

bool ExpressionParser::skip_symbol(std::string_view symbol) {
  if (!at_symbol(symbol)) return false;
  take();
  return true;
}

bool ExpressionParser::skip_name(std::string_view name) {
  if (!at_name(name)) return false;
  take();
  return true;
}

void ExpressionParser::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) fail_unexpected(fmt::format("'{}'", symbol));
}

void ExpressionParser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_unexpected(fmt::format("'{}'", name));
}

void ExpressionParser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) fail_unexpected(what);
  take();
}

std::string ExpressionParser::take_name() {
  if (current().kind != TokenKind::name) fail_unexpected("a name");
  return take().text;
}

void ExpressionParser::fail_at(int line, std::string_view what) const {
  fail("{}:{}: {}", where_, line, what);
}

void ExpressionParser::fail_unexpected(std::string_view expected) const {
  fail_at(current().line, fmt::format("expected {}, got {}", expected, describe(current())));
}

namespace {

constexpr int kMaxBlockDepth = 50;
constexpr std::size_t kMaxSourceBytes = std::size_t{1} << 20;

using StatementPtr = std::unique_ptr<Statement>;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Block parse_all() {
    Block block = parse_block({});
    if (current().kind != TokenKind::end) fail_unexpected("the end of the template");
    return block;
  }

 private:
  // Statements up to "{%" and one of `ends`, which stays the current token.
  Block parse_block(std::initializer_list<std::string_view> ends) {
    if (++depth_ > kMaxBlockDepth) fail_at(current().line, "blocks nested too deep");
    Block block;
    while (current().kind != TokenKind::end) {
      if (current().kind == TokenKind::data) {
        StatementPtr text = make(StatementKind::text);
        text->text = take().text;
        block.push_back(std::move(text));
      } else if (current().kind == TokenKind::output_begin) {
        StatementPtr output = make(StatementKind::output);
        take();
        output->expression = parse_tuple();
        expect(TokenKind::output_end, "'}}'");
        block.push_back(std::move(output));
      } else {
        take();  // "{%": the lexer leaves nothing else here
        const bool ended = std::any_of(ends.begin(), ends.end(),
                                       [this](std::string_view name) { return at_name(name); });
        if (ended) {
          --depth_;
          return block;
        }
        block.push_back(parse_statement());
      }
    }
    if (ends.size() > 0) fail_unexpected(fmt::format("'{}'", *(ends.end() - 1)));
    --depth_;
    return block;
  }

  // The body of a statement up to its `end` tag, which is consumed.
  Block parse_body(std::string_view end) {
    close_tag();
    Block body = parse_block({end});
    expect_name(end);
    close_tag();
    return body;
  }

  void close_tag() { expect(TokenKind::block_end, "'%}'"); }

  StatementPtr make(StatementKind kind) const {
    auto made = std::make_unique<Statement>();
    made->kind = kind;
    made->line = current().line;
    return made;
  }

  StatementPtr parse_statement() {
    if (current().kind != TokenKind::name) fail_unexpected("a statement");
    struct Row {
      std::string_view name;
      StatementPtr (Parser::*parse)();
    };
    static constexpr Row kStatements[] = {
        {"if", &Parser::parse_if},           {"for", &Parser::parse_for},
        {"set", &Parser::parse_set},         {"macro", &Parser::parse_macro},
        {"call", &Parser::parse_call_block}, {"filter", &Parser::parse_filter_block},
        {"with", &Parser::parse_with},       {"generation", &Parser::parse_generation},
        {"break", &Parser::parse_break},     {"continue", &Parser::parse_continue},
    };
    for (const Row& row : kStatements) {
      if (at_name(row.name)) return (this->*row.parse)();
    }
    fail_at(current().line,
            fmt::format("'{}' is not a statement of chat templates", current().text));
  }

  StatementPtr parse_if() {
    StatementPtr made = make(StatementKind::condition);
    take();
    made->conditions.push_back(parse_tuple(false));
    while (true) {
      close_tag();
      made->branches.push_back(parse_block({"elif", "else", "endif"}));
      if (skip_name("elif")) {
        made->conditions.push_back(parse_tuple(false));
      } else if (skip_name("else")) {
        made->conditions.push_back(nullptr);
        made->branches.push_back(parse_body("endif"));
        return made;
      } else {
        take();
        close_tag();
        return made;
      }
    }
  }

  StatementPtr parse_for() {
    StatementPtr made = make(StatementKind::loop);
    take();
    made->target = parse_target();
    if (!made->target.attribute.empty()) fail_at(made->line, "a loop cannot set an attribute");
    expect_name("in");
    made->expression = parse_tuple(false);
    if (skip_name("if")) made->conditions.push_back(parse_expression());
    made->recursive = skip_name("recursive");
    close_tag();
    ++loops_;
    made->branches.push_back(parse_block({"else", "endfor"}));
    --loops_;
    if (skip_name("else")) {
      made->branches.push_back(parse_body("endfor"));
      return made;
    }
    take();
    close_tag();
    return made;
  }

  Target parse_target() {
    Target target;
    const bool parenthesis = skip_symbol("(");
    target.names.push_back(take_name());
    if (skip_symbol(".")) {
      target.attribute = take_name();
      return target;
    }
    while (skip_symbol(",")) {
      target.unpack = true;
      if (current().kind != TokenKind::name || at_name("in")) break;
      target.names.push_back(take_name());
    }
    if (parenthesis) expect_symbol(")");
    return target;
  }

  StatementPtr parse_set() {
    StatementPtr made = make(StatementKind::set);
    take();
    made->target = parse_target();
    if (skip_symbol("=")) {
      made->expression = parse_tuple();
      close_tag();
      return made;
    }
    made->kind = StatementKind::set_block;
    if (skip_symbol("|")) made->expression = parse_filters(nullptr);
    made->branches.push_back(parse_body("endset"));
    return made;
  }

  void parse_parameters(Statement& made) {
    expect_symbol("(");
    while (!at_symbol(")")) {
      Parameter parameter{take_name(), nullptr};
      if (skip_symbol("=")) parameter.fallback = parse_expression();
      made.parameters.push_back(std::move(parameter));
      if (!at_symbol(")")) expect_symbol(",");
    }
    expect_symbol(")");
  }

  // The body of a function: break and continue do not reach out of it, and the names in it tell
  // what it takes besides its parameters.
  void parse_function_body(Statement& made, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    std::set<std::string> outside = std::exchange(named_, {});
    made.branches.push_back(parse_body(end));
    const auto takes = [&](std::string_view name) {
      return named_.contains(std::string(name)) &&
             std::ranges::find(made.parameters, name, &Parameter::name) == made.parameters.end();
    };
    made.takes_varargs = takes("varargs");
    made.takes_kwargs = takes("kwargs");
    made.takes_caller = takes("caller");
    named_.merge(outside);
    loops_ = loops;
  }

  StatementPtr parse_macro() {
    StatementPtr made = make(StatementKind::macro);
    take();
    made->text = take_name();
    parse_parameters(*made);
    parse_function_body(*made, "endmacro");
    return made;
  }

  StatementPtr parse_call_block() {
    StatementPtr made = make(StatementKind::call_block);
    take();
    made->text = "caller";
    if (at_symbol("(")) parse_parameters(*made);
    made->expression = parse_expression();
    if (made->expression->kind != ExpressionKind::call) fail_at(made->line, "expected a call");
    parse_function_body(*made, "endcall");
    return made;
  }

  StatementPtr parse_filter_block() {
    StatementPtr made = make(StatementKind::filter_block);
    take();
    made->expression = parse_filters(nullptr);
    made->branches.push_back(parse_body("endfilter"));
    return made;
  }

  StatementPtr parse_with() {
    StatementPtr made = make(StatementKind::scope);
    take();
    while (current().kind == TokenKind::name) {
      Parameter variable{take_name(), nullptr};
      expect_symbol("=");
      variable.fallback = parse_expression();
      made->parameters.push_back(std::move(variable));
      if (!skip_symbol(",")) break;
    }
    made->branches.push_back(parse_body("endwith"));
    return made;
  }

  // Marks what the assistant says, for trainers that need the mark; it changes no output.
  StatementPtr parse_generation() {
    StatementPtr made = make(StatementKind::scope);
    take();
    made->branches.push_back(parse_body("endgeneration"));
    return made;
  }

  StatementPtr parse_break() { return parse_jump(StatementKind::leave); }
  StatementPtr parse_continue() { return parse_jump(StatementKind::next); }

  StatementPtr parse_jump(StatementKind kind) {
    StatementPtr made = make(kind);
    const std::string name = take().text;
    if (loops_ == 0) fail_at(made->line, fmt::format("'{}' outside a loop", name));
    close_tag();
    return made;
  }

  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source, std::string_view where) {
  if (source.size() > kMaxSourceBytes) {
    fail("{}: a chat template of {} bytes; at most {} are read", where, source.size(),
         kMaxSourceBytes);
  }
  return Parser(tokenize(source, where), where).parse_all();
}

}  // namespace qlora::text::jinja
