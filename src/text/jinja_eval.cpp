// The statements of a chat template, its scopes and its limits.

#include "text/jinja_eval.h"

#include "qlora/base/error.h"
#include "text/jinja_builtins.h"

#include <algorithm>

namespace qlora::text::jinja {
// Variables set while this object lives go into a new scope inside `home`.
class Interpreter::Inside {
 public:
  Inside(Interpreter& interpreter, ScopePtr home)
      : interpreter_(interpreter), outer_(interpreter.scope_) {
    interpreter_.scope_ = std::make_shared<Scope>(Scope{std::move(home), {}});
  }
  ~Inside() { interpreter_.scope_ = std::move(outer_); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Interpreter& interpreter_;
  ScopePtr outer_;
};

Text Interpreter::render(Pairs variables) {
  scope_ = std::make_shared<Scope>();
  Text out;
  try {
    for (auto& [name, value] : global_functions()) set_variable(name.as_text().bytes(), value);
    for (auto& [name, value] : variables) set_variable(name.as_text().bytes(), value);
    run(program_, out);
  } catch (const Failure& failure) {
    fail("{}:{}: {}", where_, line_, failure.what());
  }
  return out;
}

void Interpreter::spend(std::size_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) raise("the template runs for too long");
}

void Interpreter::set_variable(const std::string& name, Value value) {
  for (auto& [known, current] : scope_->variables) {
    if (known == name) {
      current = std::move(value);
      return;
    }
  }
  scope_->variables.emplace_back(name, std::move(value));
}

const Value* Interpreter::find_variable(std::string_view name) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [known, value] : scope->variables) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

Interpreter::Flow Interpreter::run(const Block& block, Text& out) {
  for (const auto& statement : block) {
    const Flow flow = run(*statement, out);
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::run(const Statement& statement, Text& out) {
  const Level level(*this);
  spend(1);
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::text: out.append(statement.text); break;
    case StatementKind::output: {
      const Text text = to_text(evaluate(*statement.expression));
      spend(text.size() / 8);
      out.append(text);
      break;
    }
    case StatementKind::condition: return run_condition(statement, out);
    case StatementKind::loop: return run_loop(statement, out);
    case StatementKind::scope: return run_scope(statement, out);
    case StatementKind::set:
    case StatementKind::set_block: run_set(statement); break;
    case StatementKind::macro: set_variable(statement.text, make_macro(statement)); break;
    case StatementKind::call_block: run_call_block(statement, out); break;
    case StatementKind::filter_block:
      out.append(to_text(filter_block(statement.expression.get(), run_body(statement))));
      break;
    case StatementKind::leave: return Flow::leave;
    case StatementKind::next: return Flow::next;
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::run_condition(const Statement& statement, Text& out) {
  for (std::size_t i = 0; i < statement.conditions.size(); ++i) {
    const Expression* condition = statement.conditions[i].get();
    if (condition == nullptr || evaluate(*condition).truthy()) {
      return run(statement.branches[i], out);
    }
  }
  return Flow::on;
}

Items Interpreter::loop_items(const Statement& statement) {
  Items items = iterate(evaluate(*statement.expression));
  spend(items.size());
  if (statement.conditions.empty()) return items;
  Items kept;
  for (const Value& item : items) {
    const Inside inside(*this, scope_);
    assign(statement.target, item);
    if (evaluate(*statement.conditions[0]).truthy()) kept.push_back(item);
  }
  return kept;
}

namespace {

// A loop's scope and `loop` variable cost about as much as this many statements.
constexpr std::size_t kIterationSteps = 30;

Value loop_variable(const Items& items, std::size_t index) {
  const auto count = static_cast<std::int64_t>(items.size());
  const auto i = static_cast<std::int64_t>(index);
  const auto cycle = [i](Interpreter&, const Arguments& arguments) {
    if (arguments.positional.empty()) raise("loop.cycle needs an argument");
    return arguments.positional[static_cast<std::size_t>(i) % arguments.positional.size()];
  };
  Pairs pairs;
  const auto add = [&pairs](const char* name, Value value) {
    pairs.emplace_back(Value::string(name), std::move(value));
  };
  add("index", Value::integer(i + 1));
  add("index0", Value::integer(i));
  add("first", Value::boolean(i == 0));
  add("last", Value::boolean(i + 1 == count));
  add("length", Value::integer(count));
  add("revindex", Value::integer(count - i));
  add("revindex0", Value::integer(count - i - 1));
  add("depth", Value::integer(1));
  add("depth0", Value::integer(0));
  add("previtem", i > 0 ? items[index - 1] : Value("'loop.previtem'"));
  add("nextitem", i + 1 < count ? items[index + 1] : Value("'loop.nextitem'"));
  add("cycle", Value::function(cycle));
  return Value::name_space(std::move(pairs));
}

}  // namespace

Interpreter::Flow Interpreter::run_loop(const Statement& statement, Text& out) {
  const Items items = loop_items(statement);
  for (std::size_t i = 0; i < items.size(); ++i) {
    spend(kIterationSteps);
    const Inside inside(*this, scope_);
    assign(statement.target, items[i]);
    set_variable("loop", loop_variable(items, i));
    if (run(statement.branches[0], out) == Flow::leave) break;
  }
  if (items.empty() && statement.branches.size() > 1) {
    const Inside inside(*this, scope_);
    return run(statement.branches[1], out);
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::run_scope(const Statement& statement, Text& out) {
  std::vector<Value> values;
  for (const Parameter& variable : statement.parameters) {
    values.push_back(evaluate(*variable.fallback));
  }
  const Inside inside(*this, scope_);
  for (std::size_t i = 0; i < values.size(); ++i) {
    set_variable(statement.parameters[i].name, values[i]);
  }
  return run(statement.branches[0], out);
}

void Interpreter::run_set(const Statement& statement) {
  if (statement.kind == StatementKind::set) {
    return assign(statement.target, evaluate(*statement.expression));
  }
  assign(statement.target, filter_block(statement.expression.get(), run_body(statement)));
}

// The text of a statement's body, with the variables of the body kept inside.
Value Interpreter::run_body(const Statement& statement) {
  Text body;
  const Inside inside(*this, scope_);
  run(statement.branches[0], body);
  return Value::string(std::move(body));
}

Value Interpreter::filter_block(const Expression* chain, Value value) {
  if (chain == nullptr) return value;
  value = filter_block(chain->parts.empty() ? nullptr : chain->parts[0].get(), std::move(value));
  return apply_filter(chain->name, value, evaluate_arguments(*chain));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (!target.attribute.empty()) {
    const Value* space = find_variable(target.names[0]);
    if (space == nullptr) raise("'{}' is undefined", target.names[0]);
    return space->set_attribute(target.attribute, value);
  }
  if (!target.unpack) return set_variable(target.names[0], value);
  const Items items = iterate(value);
  if (items.size() != target.names.size()) {
    raise("{} values for {} names", items.size(), target.names.size());
  }
  for (std::size_t i = 0; i < items.size(); ++i) set_variable(target.names[i], items[i]);
}

// A macro sees the variables around its definition, as they are when it is called.
Value Interpreter::make_macro(const Statement& statement) {
  const std::weak_ptr<Scope> home = scope_;
  return Value::function([&statement, home](Interpreter& self, const Arguments& arguments) {
    return self.call_macro(statement, home, arguments);
  });
}

Value Interpreter::call_macro(const Statement& macro, const std::weak_ptr<Scope>& home,
                              const Arguments& arguments) {
  ScopePtr scope = home.lock();
  if (!scope) raise("macro '{}' is called outside the block that defined it", macro.text);
  const Level level(*this);
  const Inside inside(*this, std::move(scope));
  bind_parameters(macro, arguments);
  Text body;
  run(macro.branches[0], body);
  return Value::string(std::move(body));
}

void Interpreter::bind_parameters(const Statement& macro, const Arguments& arguments) {
  const auto& parameters = macro.parameters;
  if (arguments.positional.size() > parameters.size()) {
    raise("macro '{}' takes {} arguments, got {}", macro.text, parameters.size(),
          arguments.positional.size());
  }
  for (const auto& [name, value] : arguments.named) {
    const bool known = std::any_of(parameters.begin(), parameters.end(),
                                   [&](const Parameter& p) { return p.name == name; });
    if (!known && name != "caller") raise("macro '{}' has no argument '{}'", macro.text, name);
    set_variable(name, value);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = parameters[i];
    if (const Value* given = arguments.find(i, parameter.name)) {
      set_variable(parameter.name, *given);
    } else if (parameter.fallback) {
      set_variable(parameter.name, evaluate(*parameter.fallback));
    } else {
      set_variable(parameter.name, Value("'" + parameter.name + "'"));
    }
  }
}

void Interpreter::run_call_block(const Statement& statement, Text& out) {
  const Expression& call_expression = *statement.expression;
  const Value function = evaluate(*call_expression.parts[0]);
  Arguments arguments = evaluate_arguments(call_expression);
  arguments.named.emplace_back("caller", make_macro(statement));
  out.append(to_text(call(function, arguments)));
}

Value Interpreter::call(const Value& function, const Arguments& arguments) {
  return function.as_function()(*this, arguments);
}

Value Interpreter::apply_filter(const std::string& name, const Value& value,
                                const Arguments& arguments) {
  const Level level(*this);  // map applies filters that may be map
  const Builtin* filter = find_filter(name);
  if (filter == nullptr) raise("there is no filter '{}'", name);
  return call_builtin(*filter, "filter", *this, value, arguments);
}

bool Interpreter::apply_test(const std::string& name, const Value& value,
                             const Arguments& arguments) {
  const Builtin* test = find_test(name);
  if (test == nullptr) raise("there is no test '{}'", name);
  return call_builtin(*test, "test", *this, value, arguments).truthy();
}

}  // namespace qlora::text::jinja
