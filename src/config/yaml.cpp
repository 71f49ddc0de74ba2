#include "config/yaml.h"

#include "qlora/base/error.h"
#include "qlora/base/json.h"
#include "qlora/base/text_util.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <sstream>

namespace qlora::config {
namespace {

constexpr std::size_t kMaxDepth = 16;

// Builds the tree from the parser's events, so that limits hold while it is being built.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::string_view source) : source_(source) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second document; expected one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(Node::Kind::Null, mark, anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { refuse_anchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                const std::string& value) override {
    add(Node::Kind::Scalar, mark, anchor).text = value;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(Node::Kind::List, mark, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(Node::Kind::Map, mark, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

  Node root;

 private:
  [[noreturn]] void refuse(const YAML::Mark& mark, std::string_view what) const {
    fail("{}:{}: {}", source_, mark.line + 1, what);
  }
  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) const {
    refuse(mark, "an anchor or alias (& or *); expected the value itself, or quotes around a text");
  }

  Node& add(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) refuse_anchor(mark);
    Node& node = open_.empty() ? root : open_.back()->items.emplace_back();
    node.kind = kind;
    node.line = mark.line + 1;
    return node;
  }
  // While a node is open, nothing is appended to its parent's items, so the pointer stays valid.
  void open(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (open_.size() == kMaxDepth) refuse(mark, "nested too deeply");
    open_.push_back(&add(kind, mark, anchor));
  }

  std::string source_;
  std::vector<Node*> open_;
  int documents_ = 0;
};

int line_of(std::string_view text, std::size_t position) {
  return 1 + static_cast<int>(std::ranges::count(text.substr(0, position), '\n'));
}

}  // namespace

Node parse_yaml(std::string_view text, std::string_view source) {
  const std::size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail("{}:{}: not valid UTF-8", source, line_of(text, invalid));
  }
  std::istringstream stream{std::string(text)};
  TreeBuilder builder(source);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail("{}:{}: not valid YAML: {}", source, error.mark.line + 1, error.msg);
  }
  return std::move(builder.root);
}

std::string yaml_scalar(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
  const bool dash = text.starts_with('-') &&
                    !(text.size() > 1 && std::isdigit(static_cast<unsigned char>(text[1])) != 0);
  const bool plain = !text.empty() && !dash && text != "null" && text != "Null" && text != "NULL" &&
                     text.find_first_not_of(kPlain) == std::string::npos;
  // YAML's double-quoted scalars are a superset of JSON's strings.
  return plain ? text : Json(text).dump();
}

}  // namespace qlora::config
