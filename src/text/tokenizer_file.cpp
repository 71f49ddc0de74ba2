#include "text/tokenizer_json.h"

#include "qlora/base/narrow.h"

#include <limits>

namespace qlora::text {
namespace {

// A parser's events -> a Json tree, with the object at model.vocab (two keys deep) put aside.
class TokenizerFileReader {
 public:
  explicit TokenizerFileReader(std::string_view where) : where_(where) {}
  TokenizerFile take() { return std::move(file_); }

  bool null() { return value(nullptr); }
  bool boolean(bool v) { return value(v); }
  bool number_integer(std::int64_t v) { return number(v); }
  bool number_unsigned(std::uint64_t v) { return number(v); }
  bool number_float(double v, const std::string&) { return value(v); }
  bool string(std::string& v) { return value(std::move(v)); }
  bool binary(Json::binary_t&) { return false; }

  bool start_object(std::size_t) {
    if (!in_vocabulary_ && vocabulary_next()) {
      in_vocabulary_ = true;
      return true;
    }
    return open(Json::object());
  }
  bool end_object() {
    if (in_vocabulary_) {
      in_vocabulary_ = false;
      return true;
    }
    return close();
  }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (!in_vocabulary_ && open_.back()->size() > kMostKeys) {
      fail("{}: an object with more than {} keys", where_, kMostKeys);
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const Json::exception& error) {
    fail("{}: not valid JSON: {}", where_, error.what());
  }

 private:
  static constexpr std::size_t kMostKeys = 4096;
  static constexpr std::size_t kDeepest = 64;

  bool vocabulary_next() const { return open_.size() == 2 && in_model_ && key_ == "vocab"; }

  template <class Integer>
  bool number(Integer v) {
    if (!in_vocabulary_) return value(v);
    if (!std::in_range<std::int32_t>(v) || v < Integer(0)) {
      fail("{}: the token '{}' has the id {}", where_, key_, v);
    }
    file_.vocabulary.emplace_back(std::move(key_), static_cast<std::int32_t>(v));
    return true;
  }

  template <class T>
  bool value(T&& v) {
    add(Json(std::forward<T>(v)));
    return true;
  }

  Json* add(Json v) {
    if (in_vocabulary_) fail("{}: the token '{}' has an id that is no number", where_, key_);
    if (open_.empty()) {
      file_.rest = std::move(v);
      return &file_.rest;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    Json& place = parent[key_];
    place = std::move(v);
    return &place;
  }

  // Pointers into the tree stay valid: a container grows only while it is the innermost open one.
  bool open(Json container) {
    if (open_.size() == kDeepest) fail("{}: nested deeper than {} levels", where_, kDeepest);
    if (open_.size() == 1) in_model_ = open_[0]->is_object() && key_ == "model";
    open_.push_back(add(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view where_;
  TokenizerFile file_;
  std::vector<Json*> open_;
  std::string key_;
  bool in_model_ = false;  // the member of the root that is, or was last, open is `model`
  bool in_vocabulary_ = false;
};

// An object's text up to its closing brace, ready for one more member.
std::string print_open(const Json& object) {
  std::string text = object.dump();
  text.pop_back();
  return text + (object.empty() ? "" : ",");
}

}  // namespace

std::string print_tokenizer_file(const TokenizerFile& file) {
  Json outside = file.rest;
  outside.erase("model");
  Json model = file.rest.at("model");
  model.erase("vocab");
  std::string text = print_open(outside) + "\"model\":" + print_open(model) + "\"vocab\":{";
  const char* comma = "";
  for (const auto& [token, id] : file.vocabulary) {
    text += fmt::format("{}{}:{}", comma, Json(token).dump(), id);
    comma = ",";
  }
  return text + "}}}\n";
}

TokenizerFile parse_tokenizer_file(std::string_view text, std::string_view where) {
  TokenizerFileReader reader(where);
  Json::sax_parse(text.begin(), text.end(), &reader);
  TokenizerFile file = reader.take();
  if (!file.rest.is_object()) fail("{}: expected a JSON object", where);
  return file;
}

}  // namespace qlora::text
