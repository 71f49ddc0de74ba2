#include "text/jinja_text.h"

#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>

namespace qlora::text::jinja {

Text::Text(std::string bytes, Origin origin) : bytes_(std::move(bytes)) {
  if (bytes_.size() > kMaxTextBytes) raise("a text grew past {} bytes", kMaxTextBytes);
  if (origin != kTemplate) origins_.assign(bytes_.size(), origin);
}

Origin Text::first_origin() const {
  const auto found =
      std::find_if(origins_.begin(), origins_.end(), [](Origin o) { return o != 0; });
  return found == origins_.end() ? kTemplate : *found;
}

void Text::reserve_origins() {
  if (origins_.empty()) origins_.assign(bytes_.size(), kTemplate);
}

void Text::append(const Text& other) {
  if (other.origins_.empty()) return append(other.bytes_);
  if (size() + other.size() > kMaxTextBytes) raise("a text grew past {} bytes", kMaxTextBytes);
  reserve_origins();
  bytes_ += other.bytes_;
  origins_.insert(origins_.end(), other.origins_.begin(), other.origins_.end());
}

void Text::append(std::string_view bytes, Origin origin) {
  if (size() + bytes.size() > kMaxTextBytes) raise("a text grew past {} bytes", kMaxTextBytes);
  if (origin != kTemplate) reserve_origins();
  bytes_ += bytes;
  if (origin != kTemplate || !origins_.empty()) origins_.resize(bytes_.size(), origin);
}

Text Text::bytes_between(std::size_t begin, std::size_t end) const {
  Text part;
  part.bytes_ = bytes_.substr(begin, end - begin);
  if (!origins_.empty()) {
    part.origins_.assign(origins_.begin() + static_cast<std::ptrdiff_t>(begin),
                         origins_.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return part;
}

std::uint32_t next_code_point(std::string_view bytes, std::size_t& offset) {
  utf8proc_int32_t code_point = 0;
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()) + offset;
  const auto left = static_cast<utf8proc_ssize_t>(bytes.size() - offset);
  const utf8proc_ssize_t length = utf8proc_iterate(data, left, &code_point);
  offset += length > 0 ? static_cast<std::size_t>(length) : 1;
  return length > 0 ? static_cast<std::uint32_t>(code_point) : 0xFFFDu;
}

std::vector<std::size_t> code_points(std::string_view bytes) {
  std::vector<std::size_t> offsets;
  std::size_t offset = 0;
  while (offset < bytes.size()) {
    offsets.push_back(offset);
    next_code_point(bytes, offset);
  }
  offsets.push_back(bytes.size());
  return offsets;
}

bool is_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_letter(std::uint32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_alphanumeric(std::uint32_t c) { return is_letter(c) || is_numeric(c); }

Text strip(const Text& text, const std::string* chars, Side side) {
  const std::vector<std::size_t> offsets = code_points(text.bytes());
  const auto removable = [&](std::size_t i) {
    std::size_t offset = offsets[i];
    if (chars == nullptr) return is_space(next_code_point(text.bytes(), offset));
    const std::size_t length = offsets[i + 1] - offset;
    return chars->find(text.bytes().substr(offset, length)) != std::string::npos;
  };
  std::size_t begin = 0;
  std::size_t end = offsets.size() - 1;
  if (side != Side::right) {
    while (begin < end && removable(begin)) ++begin;
  }
  if (side != Side::left) {
    while (end > begin && removable(end - 1)) --end;
  }
  return text.bytes_between(offsets[begin], offsets[end]);
}

Text replace(const Text& text, std::string_view from, const Text& to, std::int64_t limit) {
  Text result;
  std::size_t done = 0;
  if (from.empty()) {  // Python puts `to` before every character and at the end
    const std::vector<std::size_t> offsets = code_points(text.bytes());
    for (std::size_t i = 0; i < offsets.size() && limit != 0; ++i, --limit) {
      result.append(text.bytes_between(done, offsets[i]));
      result.append(to);
      done = offsets[i];
    }
  } else {
    for (; limit != 0; --limit) {
      const std::size_t found = text.bytes().find(from, done);
      if (found == std::string::npos) break;
      result.append(text.bytes_between(done, found));
      result.append(to);
      done = found + from.size();
    }
  }
  result.append(text.bytes_between(done, text.size()));
  return result;
}

namespace {

void add_part(std::vector<Text>& parts, Text part) {
  if (parts.size() == kMaxItems) raise("more than {} items", kMaxItems);
  parts.push_back(std::move(part));
}

std::vector<Text> split_at_space(const Text& text, std::int64_t limit) {
  std::vector<Text> parts;
  const std::string& bytes = text.bytes();
  std::size_t begin = 0;
  std::size_t offset = 0;
  bool inside = false;
  while (offset < bytes.size()) {
    const std::size_t here = offset;
    const bool space = is_space(next_code_point(bytes, offset));
    if (inside && space) {
      add_part(parts, text.bytes_between(begin, here));
      inside = false;
    } else if (!inside && !space) {
      begin = here;
      if (std::cmp_equal(parts.size(), limit)) {
        add_part(parts, text.bytes_between(begin, text.size()));
        return parts;
      }
      inside = true;
    }
  }
  if (inside) add_part(parts, text.bytes_between(begin, text.size()));
  return parts;
}

}  // namespace

std::vector<Text> split(const Text& text, const std::string* separator, std::int64_t limit) {
  if (separator == nullptr) return split_at_space(text, limit);
  if (separator->empty()) raise("split: the separator is empty");
  std::vector<Text> parts;
  std::size_t done = 0;
  while (!std::cmp_equal(parts.size(), limit)) {
    const std::size_t found = text.bytes().find(*separator, done);
    if (found == std::string::npos) break;
    add_part(parts, text.bytes_between(done, found));
    done = found + separator->size();
  }
  add_part(parts, text.bytes_between(done, text.size()));
  return parts;
}

std::vector<Text> split_from_right(const Text& text, const std::string* separator,
                                   std::int64_t limit) {
  std::vector<Text> parts = split(text, separator, -1);
  if (limit < 0 || std::ssize(parts) - 1 <= limit) return parts;
  // The last `limit` parts stay; what is before them is one, as it stands in the text.
  const auto cut = parts.end() - static_cast<std::ptrdiff_t>(limit);
  std::size_t end = text.size();
  if (separator != nullptr) {
    for (auto part = cut; part != parts.end(); ++part) end -= part->size() + separator->size();
  } else if (limit > 0) {
    end -= split(text, nullptr, std::ssize(parts) - limit).back().size();
  }
  const Text start = text.bytes_between(0, end);
  parts.erase(parts.begin(), cut);
  parts.insert(parts.begin(), separator != nullptr ? start : strip(start, nullptr, Side::right));
  return parts;
}

Text pad(const Text& text, std::int64_t width, Side side, const Text& fill) {
  const std::int64_t have = std::ssize(code_points(text.bytes())) - 1;
  const std::int64_t missing = std::max<std::int64_t>(width, have) - have;
  const std::int64_t left = side == Side::left    ? missing
                            : side == Side::right ? 0
                                                  : missing / 2 + (missing & width & 1);
  Text padded;
  for (std::int64_t i = 0; i < left; ++i) padded.append(fill);
  padded.append(text);
  for (std::int64_t i = left; i < missing; ++i) padded.append(fill);
  return padded;
}

Text first_characters(const Text& text, std::int64_t count) {
  const std::vector<std::size_t> offsets = code_points(text.bytes());
  const auto all = std::ssize(offsets) - 1;
  return text.bytes_between(
      0, offsets[static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, all))]);
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  const std::string& bytes = text.bytes();
  std::size_t begin = 0;
  while (begin < bytes.size()) {
    const std::size_t end = std::min(bytes.find_first_of("\n\r", begin), bytes.size());
    std::size_t next = std::min(end + 1, bytes.size());
    if (bytes.compare(end, 2, "\r\n") == 0) next = end + 2;
    add_part(lines, text.bytes_between(begin, keep_ends ? next : end));
    begin = next;
  }
  return lines;
}

Text change_case(const Text& text, Case to) {
  Text result;
  const std::string& bytes = text.bytes();
  std::size_t offset = 0;
  bool word_start = true;
  while (offset < bytes.size()) {
    const std::size_t begin = offset;
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(bytes, offset));
    const bool up = to == Case::swap ? utf8proc_islower(c) != 0
                                     : to == Case::upper || (word_start && to != Case::lower);
    std::string changed;
    if (up && c == 0xDF) {  // sharp s, the one letter whose upper case is two in common texts
      append_char(U'S', changed);
      append_char(to == Case::upper || to == Case::swap ? U'S' : U's', changed);
    } else {
      append_char(static_cast<char32_t>(up ? utf8proc_toupper(c) : utf8proc_tolower(c)), changed);
    }
    result.append(changed, text.origin(begin));
    const bool letter = is_letter(static_cast<std::uint32_t>(c));
    const bool separator = is_space(static_cast<std::uint32_t>(c)) || c == '-' || c == '(' ||
                           c == '{' || c == '[' || c == '<';
    word_start = to == Case::title ? !letter : to == Case::words && separator;
  }
  return result;
}

}  // namespace qlora::text::jinja
