#pragma once
// Which file of a model holds its tokenizer.

#include <filesystem>

namespace qlora::text {

enum class TokenizerKind { tokenizer_json, model_file, gguf };

struct TokenizerLocation {
  TokenizerKind kind;
  std::filesystem::path file;
};

// Throws Error where `path` does not exist or holds no tokenizer.
TokenizerLocation find_tokenizer(const std::filesystem::path& path);

}  // namespace qlora::text
