#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/text/chat_template.h"
#include "qlora/text/tokenizer.h"
#include "text/gguf_tokenizer.h"
#include "text/tokenizer_files.h"

namespace qlora::text {
namespace {

namespace fs = std::filesystem;

// Everything that Hugging Face keeps beside a tokenizer.
constexpr const char* kFiles[] = {
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    kChatTemplateFile,
    "generation_config.json",
};

void copy_text(const fs::path& from, const fs::path& to) {
  if (fs::exists(from)) write_text(to, read_text(from));
}

}  // namespace

void save_tokenizer(const fs::path& source, const fs::path& target) {
  if (!fs::is_directory(target)) fail("{}: not a directory", target.string());
  const TokenizerLocation location = find_tokenizer(source);
  if (location.kind == TokenizerKind::gguf) {
    write_gguf_tokenizer(io::GgufFile(location.file), target);
    return;
  }
  const fs::path folder = location.file.parent_path();
  if (fs::equivalent(folder.empty() ? "." : folder, target)) return;
  for (const char* name : kFiles) copy_text(folder / name, target / name);
  // A file under a name of its own (kobert.model) is not in the list.
  copy_text(location.file,
            target / (location.kind == TokenizerKind::tokenizer_json ? "tokenizer.json"
                                                                     : "tokenizer.model"));
}

}  // namespace qlora::text
