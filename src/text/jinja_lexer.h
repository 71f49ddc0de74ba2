#pragma once
// A Jinja template as a list of tokens, with the white space of its text already trimmed as
// transformers sets it up: trim_blocks, lstrip_blocks, and the marks {%- -%} {%+.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text::jinja {

enum class TokenKind {
  data,
  output_begin,
  output_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  real,
  symbol,
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;  // data and string: the value; name and symbol: as written
  int line = 1;
  std::int64_t integer = 0;
  double real = 0;
};

// The last token is of kind end. Throws Error "where:line: ...".
std::vector<Token> tokenize(std::string_view source, std::string_view where);

// What an error calls the token.
std::string describe(const Token& token);

}  // namespace qlora::text::jinja
