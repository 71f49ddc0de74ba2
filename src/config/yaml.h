#pragma once
// YAML text as a small tree. yaml-cpp stays behind this header.

#include <string>
#include <string_view>
#include <vector>

namespace qlora::config {

struct Node {
  enum class Kind { Null, Scalar, List, Map };
  Kind kind = Kind::Null;
  int line = 1;             // of its first character
  std::string text;         // Scalar
  std::vector<Node> items;  // List: its members; Map: key, value, key, value, ...
};

// One document. An empty text is Null. Anchors, aliases, a second document, nesting deeper than 16
// and malformed UTF-8 are refused. Throws Error "SOURCE:LINE: ...".
Node parse_yaml(std::string_view text, std::string_view source);

// The text as a YAML scalar that reads back as the same text.
std::string yaml_scalar(const std::string& text);

}  // namespace qlora::config
