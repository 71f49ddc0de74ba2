// The statements of a chat template, its scopes and its limits.

#include "text/jinja_eval.h"

#include "qlora/base/error.h"
#include "text/jinja_builtins.h"

#include <algorithm>

namespace qlora::text::jinja {

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
  const bool enough = steps <= steps_left_;
  steps_left_ -= std::min(steps, steps_left_);
  if (!enough) raise("the template runs for too long");
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
    case StatementKind::text:
      spend(statement.text.size() / 8);
      out.append(statement.text);
      break;
    case StatementKind::output: {
      const Text text = to_text(evaluate(*statement.expression));
      spend(text.size() / 8);
      out.append(text);
      break;
    }
    case StatementKind::condition: return run_condition(statement, out);
    case StatementKind::loop: return run_loop(statement, evaluate(*statement.expression), 1, out);
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
  bind_others(macro, arguments);
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

// The arguments for which there is no parameter: varargs, kwargs and caller, where the macro names
// them.
void Interpreter::bind_others(const Statement& macro, const Arguments& arguments) {
  const auto& parameters = macro.parameters;
  const auto count = std::min(parameters.size(), arguments.positional.size());
  Items more(arguments.positional.begin() + static_cast<std::ptrdiff_t>(count),
             arguments.positional.end());
  if (!more.empty() && !macro.takes_varargs) {
    raise("macro '{}' takes {} arguments, got {}", macro.text, parameters.size(),
          arguments.positional.size());
  }
  Pairs others;
  Value caller("'caller'");
  for (const auto& [name, value] : arguments.named) {
    const auto known = std::ranges::find(parameters, name, &Parameter::name);
    if (known != parameters.end()) {
      if (known - parameters.begin() < std::ssize(arguments.positional)) {
        raise("macro '{}' is given '{}' twice", macro.text, name);
      }
    } else if (name == "caller" && macro.takes_caller) {
      caller = value;
    } else if (macro.takes_kwargs) {
      others.emplace_back(Value::string(name), value);
    } else {
      raise("macro '{}' has no argument '{}'", macro.text, name);
    }
  }
  if (macro.takes_varargs) set_variable("varargs", Value::tuple(std::move(more)));
  if (macro.takes_kwargs) set_variable("kwargs", Value::dict(std::move(others)));
  if (macro.takes_caller) set_variable("caller", std::move(caller));
}

void Interpreter::run_call_block(const Statement& statement, Text& out) {
  const Expression& call_expression = *statement.expression;
  const Value function = evaluate(*call_expression.parts[0]);
  Arguments arguments = evaluate_arguments(call_expression);
  arguments.named.emplace_back("caller", make_macro(statement));
  out.append(to_text(call(function, arguments)));
}

Value Interpreter::call(const Value& function, const Arguments& arguments) {
  const Value* const again = function.is(Kind::space) ? function.find(kCallOfLoop) : nullptr;
  return (again != nullptr ? *again : function).as_function()(*this, arguments);
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
