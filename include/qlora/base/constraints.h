#pragma once
// The words in which a settings struct describes itself. A struct states each key once:
//
//   struct LoraConfig {
//     std::int64_t r = 8;
//     template <class V>
//     void visit(V&& v) {
//       v.field("r", r, "rank of A and B", at_least(1));
//     }
//   };
//
// and configuration files, overrides, command lines, help and dumps all follow from it (module
// config). Calls on a visitor:
//   v.field(key, member, help, constraints...)   one value
//   v.section(key, member, help)                 a nested settings struct
//   v.list(key, member, help, constraints...)    a std::vector of settings structs; an entry is
//                                                written as its keys, or as its Positional text
//                                                alone. In configuration files only
//   v.check(condition, key, problem)             a rule over several members, for the key it blames
// A member is a bool, std::int64_t, double, std::string, an enum with names, a std::vector of
// strings or doubles, a StringOrList, or a std::optional of one of these (null in YAML).

#include "qlora/base/dtype.h"

#include <array>
#include <concepts>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace qlora {

// A number's bounds, inclusive unless told otherwise.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_excluded = false;
  bool high_excluded = false;
};

constexpr Range at_least(double low) { return {.low = low}; }
constexpr Range above(double low) { return {.low = low, .low_excluded = true}; }
// [0, 1]
constexpr Range fraction() { return {.low = 0, .high = 1}; }
// [0, 1): a probability that must not swallow everything, a decay rate.
constexpr Range fraction_below_one() { return {.low = 0, .high = 1, .high_excluded = true}; }

// A text that must be one of these. `hint` follows the error.
struct OneOf {
  std::vector<std::string> values;
  std::string hint;
};

// The key must be stated; a text must not be empty.
struct Required {};

// A whole number of steps, or a share of all steps between 0 and 1 (transformers' logging_steps).
struct StepsOrShare {};

// The word that a person writes for "not set" in a std::optional, besides null.
struct Unset {
  std::string word;
};

// On a command line: given without its name, in the order of declaration. A list takes the rest.
// In an entry of a v.list: what a bare text stands for.
struct Positional {};

// On a command line: the value that the bare option stands for (--resume is --resume=auto).
struct BareValue {
  std::string value;
};

// One text, or a list of texts (target_modules).
using StringOrList = std::variant<std::string, std::vector<std::string>>;

// An enum names its values by a function enum_names(E) beside it, found by its argument. The first
// name of a value is the one written; further names are read as well.
template <class E>
struct EnumName {
  E value;
  std::string_view name;
};

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E value) {
  { enum_names(value).front().name } -> std::convertible_to<std::string_view>;
};

template <NamedEnum E>
constexpr std::string_view enum_name(E value) {
  for (const auto& known : enum_names(value)) {
    if (known.value == value) return known.name;
  }
  return {};
}

// Settings choose among the floats that weights and activations may have.
constexpr std::array<EnumName<DType>, 3> enum_names(DType /*tag*/) {
  return {
      {{DType::Float32, "float32"}, {DType::BFloat16, "bfloat16"}, {DType::Float16, "float16"}}};
}

}  // namespace qlora
