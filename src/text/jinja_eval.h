#pragma once
// Runs a chat template. One interpreter renders once.

#include "text/jinja_ast.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlora::text::jinja {

// Under this name a recursive loop's `loop`, otherwise a namespace, holds what calling it does.
inline constexpr std::string_view kCallOfLoop = "()";
// Each level takes under 2 KiB of stack.
inline constexpr int kMaxRunDepth = 500;

class Interpreter {
 public:
  // `where` names the template in errors. The render takes its steps off `steps_left`. All three
  // must outlive this object.
  Interpreter(const Block& program, std::string_view where, std::size_t& steps_left)
      : program_(program), where_(where), steps_left_(steps_left) {}

  // Throws Error "where:line: ..." for a template's own raise_exception, a wrong operation, or a
  // render past the limits of steps, depth and size.
  Text render(Pairs variables);

  // For filters and tests.
  Value call(const Value& function, const Arguments& arguments);
  Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments);
  bool apply_test(const std::string& name, const Value& value, const Arguments& arguments);
  // object.name and object[key]; undefined where there is none.
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  // Counts work; throws Failure once a render did too much.
  void spend(std::size_t steps);

 private:
  enum class Flow { on, leave, next };
  struct Scope {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<std::string, Value>> variables;
  };
  using ScopePtr = std::shared_ptr<Scope>;
  // Variables set while this object lives go into a new scope inside `home`.
  class Inside {
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

  // One level of recursion over statements, expressions and macro calls.
  class Level {
   public:
    explicit Level(Interpreter& interpreter) : depth_(interpreter.depth_) {
      if (++depth_ > kMaxRunDepth) raise("calls nested too deep");
    }
    ~Level() { --depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    int& depth_;
  };

  // Statements (jinja_eval.cpp).
  Flow run(const Block& block, Text& out);
  Flow run(const Statement& statement, Text& out);
  Flow run_condition(const Statement& statement, Text& out);
  Flow run_scope(const Statement& statement, Text& out);
  void run_set(const Statement& statement);
  void run_call_block(const Statement& statement, Text& out);
  Value run_body(const Statement& statement);
  Value make_macro(const Statement& statement);
  Value call_macro(const Statement& macro, const std::weak_ptr<Scope>& home,
                   const Arguments& arguments);
  void bind_parameters(const Statement& macro, const Arguments& arguments);
  void bind_others(const Statement& macro, const Arguments& arguments);
  void assign(const Target& target, const Value& value);
  void set_variable(const std::string& name, Value value);
  const Value* find_variable(std::string_view name) const;
  Value filter_block(const Expression* chain, Value value);

  // Loops (jinja_loop.cpp).
  Flow run_loop(const Statement& statement, const Value& iterable, int depth, Text& out);
  Items loop_items(const Statement& statement, const Value& iterable);
  Value make_recursion(const Statement& statement, int depth);
  Value call_loop(const Statement& statement, const std::weak_ptr<Scope>& home, int depth,
                  const Value& iterable);

  // Expressions (jinja_operators.cpp).
  Value evaluate(const Expression& expression);
  Value compute(const Expression& expression);
  Value evaluate_container(const Expression& expression);
  Value evaluate_item(const Expression& expression);
  Value evaluate_slice(const Value& object, const Expression& slice);
  Value evaluate_call(const Expression& expression);
  Value evaluate_comparison(const Expression& expression);
  Value evaluate_condition(const Expression& expression);
  Value evaluate_concat(const Expression& expression);
  Arguments evaluate_arguments(const Expression& expression);

  const Block& program_;
  std::string_view where_;
  ScopePtr scope_;
  int line_ = 1;
  int depth_ = 0;
  std::size_t& steps_left_;
};

}  // namespace qlora::text::jinja
