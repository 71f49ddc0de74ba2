#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/io/gguf.h"
#include "qlora/text/tokenizer.h"
#include "text/bpe_tokenizer.h"
#include "text/gguf_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tiktoken.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_settings.h"

namespace qlora::text {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelNames[] = {"tokenizer.model", "spiece.model",
                                       "sentencepiece.bpe.model"};

std::unique_ptr<Tokenizer> finish(std::unique_ptr<SentencePieceTokenizer> tokenizer,
                                  const SettingsFiles& files) {
  const OwnTokens own{tokenizer->model_bos(),
                      tokenizer->model_eos(),
                      tokenizer->model_pad(),
                      tokenizer->model_bos().has_value(),
                      {}};
  tokenizer->set_settings(files.settings(*tokenizer, own));
  return tokenizer;
}

std::unique_ptr<Tokenizer> finish(BpeDescription description, const SettingsFiles& files,
                                  const fs::path& file) {
  files.update(description.added);
  const auto& stops = description.stop_ids;
  const OwnTokens own{description.prefix_token,
                      stops.empty() ? std::nullopt : std::optional(stops.front()), std::nullopt,
                      description.prefix_token.has_value(), stops};
  auto tokenizer = std::make_unique<BpeTokenizer>(std::move(description), file.string());
  tokenizer->set_settings(files.settings(*tokenizer, own));
  return tokenizer;
}

std::unique_ptr<Tokenizer> load_model_file(const fs::path& file) {
  const SettingsFiles files(file.parent_path());
  const std::string bytes = read_text(file);
  if (looks_like_tiktoken(bytes)) {
    return finish(describe_tiktoken(bytes, file.string()), files, file);
  }
  std::vector<AddedToken> added;
  files.update(added);
  return finish(std::make_unique<SentencePieceTokenizer>(bytes, std::move(added), files.legacy(),
                                                         file.string()),
                files);
}

std::unique_ptr<Tokenizer> load_tokenizer_json(const fs::path& file) {
  const TokenizerFile parsed = parse_tokenizer_file(read_text(file), file.string());
  const fs::path folder = file.parent_path();
  if (!unsupported_model(parsed).empty()) {
    for (const char* name : kModelNames) {
      if (fs::exists(folder / name)) return load_model_file(folder / name);
    }
  }
  return finish(describe_bpe(parsed, file.string()), SettingsFiles(folder), file);
}

}  // namespace

TokenizerLocation find_tokenizer(const fs::path& path) {
  if (!fs::exists(path)) {
    fail("{}: no such file or directory; expected a model directory, a tokenizer file or a GGUF",
         path.string());
  }
  if (fs::is_directory(path)) {
    if (fs::exists(path / "tokenizer.json")) {
      return {TokenizerKind::tokenizer_json, path / "tokenizer.json"};
    }
    for (const char* name : kModelNames) {
      if (fs::exists(path / name)) return {TokenizerKind::model_file, path / name};
    }
    fail("{}: no tokenizer in it; expected tokenizer.json, tokenizer.model or spiece.model",
         path.string());
  }
  if (io::is_gguf(path)) return {TokenizerKind::gguf, path};
  if (path.extension() == ".json") return {TokenizerKind::tokenizer_json, path};
  return {TokenizerKind::model_file, path};
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& model_path) {
  const TokenizerLocation location = find_tokenizer(model_path);
  switch (location.kind) {
    case TokenizerKind::tokenizer_json: return load_tokenizer_json(location.file);
    case TokenizerKind::model_file: return load_model_file(location.file);
    case TokenizerKind::gguf: return load_gguf_tokenizer(io::GgufFile(location.file));
  }
  QLORA_ASSERT(false);
}

}  // namespace qlora::text
