#pragma once
// The syntax tree of a chat template.

#include "text/jinja_value.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace qlora::text::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Block = std::vector<std::unique_ptr<Statement>>;

// What `parts` and `name` hold:
enum class ExpressionKind {
  literal,    // value
  name,       // name
  list,       // parts
  tuple,      // parts
  dict,       // parts: key, value, key, value ...
  attribute,  // parts[0] . name
  item,       // parts[0] [ parts[1] ]
  slice,      // parts: start, stop, step, each possibly null; only as parts[1] of item
  call,       // parts[0] ( arguments )
  filter,     // parts[0] | name ( arguments ); parts[0] is null in a filter or set block
  test,       // parts[0] is name ( arguments )
  negation,   // not parts[0]
  minus,
  plus,         // - parts[0]
  binary,       // parts[0] name parts[1]; name is + - * / // % **
  comparison,   // parts[0] operators[0] parts[1] operators[1] parts[2] ...
  conjunction,  // parts[0] and parts[1]
  disjunction,  // parts[0] or parts[1]
  concat,       // parts joined by ~
  condition,    // parts[0] if parts[1] else parts[2]; parts[2] may be null
};

struct Expression {
  ExpressionKind kind = ExpressionKind::literal;
  int line = 0;
  int depth = 1;
  std::string name;
  Value value;
  std::vector<ExpressionPtr> parts;
  std::vector<ExpressionPtr> arguments;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  std::vector<std::string> operators;
};

// What a `for` or `set` assigns to: one name, a tuple of names, or namespace.attribute.
struct Target {
  std::vector<std::string> names;
  std::string attribute;  // of names[0]
  bool unpack = false;
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // null where the argument is required
};

enum class StatementKind {
  text,          // text
  output,        // {{ expression }}
  condition,     // branches[i] where conditions[i] holds; a null condition is `else`
  loop,          // for target in expression if conditions[0]: branches[0] else branches[1]
  set,           // target = expression
  set_block,     // target = branches[0] through the filters in expression
  macro,         // text (parameters) branches[0]
  call_block,    // expression (a call) with caller (parameters) = branches[0]; text is "caller"
  filter_block,  // branches[0] through the filters in expression
  scope,         // branches[0] with its own variables: target of `with`
  leave,
  next,  // break, continue
};

struct Statement {
  StatementKind kind = StatementKind::text;
  int line = 0;
  std::string text;
  ExpressionPtr expression;
  std::vector<ExpressionPtr> conditions;
  std::vector<Block> branches;
  Target target;
  std::vector<Parameter> parameters;
  bool recursive = false;  // of a loop: its body may call it
  // Of a macro or call block, whose body names these: it takes more arguments than its parameters,
  // and the body of a call block.
  bool takes_varargs = false;
  bool takes_kwargs = false;
  bool takes_caller = false;
};

}  // namespace qlora::text::jinja
