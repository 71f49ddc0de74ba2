// Python's formatting with %.

#include "text/jinja_builtins.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <type_traits>

namespace qlora::text::jinja {
namespace {

constexpr int kMaxWidth = 10'000;

struct Field {
  std::optional<std::string> key;
  bool left = false;
  bool zeros = false;
  bool alternate = false;
  std::string sign;  // "+", " " or none
  int width = 0;
  std::optional<int> precision;
  char type = 's';
};

class PercentFormat {
 public:
  PercentFormat(const Text& format, const Value& values)
      : format_(format), bytes_(format.bytes()), values_(values) {}

  Text run() {
    Text out;
    while (at_ < bytes_.size()) {
      const std::size_t next = std::min(bytes_.find('%', at_), bytes_.size());
      out.append(format_.bytes_between(at_, next));
      at_ = next;
      if (at_ == bytes_.size()) break;
      ++at_;
      const Field field = read_field();
      out.append(field.type == '%' ? Text("%") : write(field, value_of(field)));
    }
    const bool container = values_.is(Kind::dict) || values_.is(Kind::list);
    if (!container && used_ < count()) raise("format: {} values for {} places", count(), used_);
    return out;
  }

 private:
  std::size_t count() const { return values_.is(Kind::tuple) ? values_.as_items().size() : 1; }

  bool skip(char c) {
    if (at_ >= bytes_.size() || bytes_[at_] != c) return false;
    ++at_;
    return true;
  }

  int read_number() {
    int number = 0;
    if (at_ < bytes_.size() && bytes_[at_] == '-') return number;
    const char* const begin = bytes_.data() + at_;
    const auto parsed = std::from_chars(begin, bytes_.data() + bytes_.size(), number);
    at_ += static_cast<std::size_t>(parsed.ptr - begin);
    if (parsed.ec == std::errc::result_out_of_range || number > kMaxWidth) {
      raise("format: a width past {}", kMaxWidth);
    }
    return number;
  }

  // What stands behind a percent sign.
  Field read_field() {
    Field field;
    if (skip('(')) {
      const std::size_t end = bytes_.find(')', at_);
      if (end == std::string::npos) raise("format: a name is not closed by )");
      field.key = bytes_.substr(at_, end - at_);
      at_ = end + 1;
    }
    for (bool more = true; more;) {
      if (skip('-')) {
        field.left = true;
      } else if (skip('0')) {
        field.zeros = true;
      } else if (skip('#')) {
        field.alternate = true;
      } else if (skip('+')) {
        field.sign = "+";
      } else if (skip(' ')) {
        if (field.sign.empty()) field.sign = " ";
      } else {
        more = false;
      }
    }
    field.width = read_number();
    if (skip('.')) field.precision = read_number();
    if (at_ >= bytes_.size()) raise("format: a % stands alone");
    field.type = bytes_[at_++];
    return field;
  }

  const Value& value_of(const Field& field) {
    if (field.key) {
      const Value* const found = values_.is(Kind::dict) ? values_.find(*field.key) : nullptr;
      if (found == nullptr) raise("format: there is no value '{}'", *field.key);
      return *found;
    }
    if (used_ == count()) raise("format: {} values are too few", count());
    ++used_;
    return values_.is(Kind::tuple) ? values_.as_items()[used_ - 1] : values_;
  }

  static Text write(const Field& field, const Value& value) {
    switch (field.type) {
      case 's': return fit(field, to_text(value));
      case 'r': return fit(field, repr(value));
      case 'd':
      case 'i':
      case 'u': return write_number(field, 'd', whole(value));
      case 'x':
      case 'X': return write_number(field, field.type, value.as_integer());
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': return write_number(field, field.type, value.as_real());
      default: raise("format: '%{}' is not known", field.type);
    }
  }

  static std::int64_t whole(const Value& value) {
    if (!value.is(Kind::real)) return value.as_integer();
    const double number = value.as_real();
    if (!(std::abs(number) < 0x1p63)) raise("a number past 64 bits");
    return static_cast<std::int64_t>(number);
  }

  static Text fit(const Field& field, const Text& text) {
    const Text kept = field.precision ? first_characters(text, *field.precision) : text;
    return pad(kept, field.width, field.left ? Side::right : Side::left, Text(" "));
  }

  // By fmt, whose words for the same are nearly Python's.
  template <class Number>
  static Text write_number(const Field& field, char type, Number number) {
    if (std::is_integral_v<Number> && field.precision) {
      raise("format: a whole number has no precision");
    }
    std::string how = "{:";
    if (field.left) how += '<';
    how += field.sign;
    if (field.alternate) how += '#';
    if (field.zeros && !field.left) how += '0';
    if (field.width > 0) how += std::to_string(field.width);
    if (field.precision) how += "." + std::to_string(*field.precision);
    if (type != 'd') how += type;
    return Text(fmt::format(fmt::runtime(how + "}"), number));
  }

  const Text& format_;
  const std::string& bytes_;
  const Value& values_;
  std::size_t at_ = 0;
  std::size_t used_ = 0;
};

}  // namespace

Text percent_format(const Text& format, const Value& values) {
  return PercentFormat(format, values).run();
}

}  // namespace qlora::text::jinja
