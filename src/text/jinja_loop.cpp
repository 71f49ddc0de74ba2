// The loops of a chat template and their `loop` variable.

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"

namespace qlora::text::jinja {
namespace {

// A loop's scope and `loop` variable cost about as much as this many statements.
constexpr std::size_t kIterationSteps = 50;

// What loop.changed was last asked about, over all rounds of one loop.
using Asked = std::optional<Value>;

// The loop itself keeps `asked`, so that it may hold this function.
Value make_changed(const std::weak_ptr<Asked>& asked) {
  return Value::function([asked](Interpreter& self, const Arguments& arguments) {
    const auto last = asked.lock();
    if (!last) raise("loop.changed is called outside its loop");
    Value now = Value::tuple(arguments.positional);
    self.spend(cost(now));
    const bool changed = !*last || !equal(**last, now);
    *last = std::move(now);
    return Value::boolean(changed);
  });
}

Value make_cycle(std::size_t index) {
  return Value::function([index](Interpreter&, const Arguments& arguments) {
    if (arguments.positional.empty()) raise("loop.cycle needs an argument");
    return arguments.positional[index % arguments.positional.size()];
  });
}

Value loop_variable(const Items& items, std::size_t index, int depth, const Value& changed,
                    const Value& again) {
  const auto count = static_cast<std::int64_t>(items.size());
  const auto i = static_cast<std::int64_t>(index);
  Pairs pairs;
  const auto add = [&pairs](std::string_view name, Value value) {
    pairs.emplace_back(Value::string(std::string(name)), std::move(value));
  };
  add("index", Value::integer(i + 1));
  add("index0", Value::integer(i));
  add("first", Value::boolean(i == 0));
  add("last", Value::boolean(i + 1 == count));
  add("length", Value::integer(count));
  add("revindex", Value::integer(count - i));
  add("revindex0", Value::integer(count - i - 1));
  add("depth", Value::integer(depth));
  add("depth0", Value::integer(depth - 1));
  add("previtem", i > 0 ? items[index - 1] : Value("'loop.previtem'"));
  add("nextitem", i + 1 < count ? items[index + 1] : Value("'loop.nextitem'"));
  add("cycle", make_cycle(index));
  add("changed", changed);
  if (!again.is(Kind::undefined)) add(kCallOfLoop, again);
  return Value::name_space(std::move(pairs));
}

}  // namespace

Items Interpreter::loop_items(const Statement& statement, const Value& iterable) {
  Items items = iterate(iterable);
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

Interpreter::Flow Interpreter::run_loop(const Statement& statement, const Value& iterable,
                                        int depth, Text& out) {
  const Items items = loop_items(statement, iterable);
  const auto asked = std::make_shared<Asked>();
  const Value changed = make_changed(asked);
  const Value again = statement.recursive ? make_recursion(statement, depth + 1) : Value();
  for (std::size_t i = 0; i < items.size(); ++i) {
    spend(kIterationSteps);
    const Inside inside(*this, scope_);
    assign(statement.target, items[i]);
    set_variable("loop", loop_variable(items, i, depth, changed, again));
    if (run(statement.branches[0], out) == Flow::leave) break;
  }
  if (items.empty() && statement.branches.size() > 1) {
    const Inside inside(*this, scope_);
    return run(statement.branches[1], out);
  }
  return Flow::on;
}

// loop(iterable): the text of the same loop over it, among the variables around the loop.
Value Interpreter::make_recursion(const Statement& statement, int depth) {
  const std::weak_ptr<Scope> home = scope_;
  return Value::function([&statement, home, depth](Interpreter& self, const Arguments& arguments) {
    return self.call_loop(statement, home, depth, required_argument(arguments, 0, "iterable"));
  });
}

Value Interpreter::call_loop(const Statement& statement, const std::weak_ptr<Scope>& home,
                             int depth, const Value& iterable) {
  ScopePtr scope = home.lock();
  if (!scope) raise("a loop is called outside the block that it stands in");
  const Level level(*this);
  const Inside inside(*this, std::move(scope));
  Text body;
  run_loop(statement, iterable, depth, body);
  return Value::string(std::move(body));
}

}  // namespace qlora::text::jinja
