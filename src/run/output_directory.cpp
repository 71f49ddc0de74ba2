#include "qlora/run/output_directory.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/text/tokenizer.h"

#include <algorithm>
#include <string>

namespace qlora::run {
namespace fs = std::filesystem;
namespace {

constexpr const char* kGenerationConfig = "generation_config.json";

// Whether `path` is `folder` or lies somewhere inside it.
bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path inner = fs::weakly_canonical(path);
  const fs::path outer = fs::weakly_canonical(folder);
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

bool has_tokenizer(const fs::path& model) {
  try {
    text::load_tokenizer(model);
    return true;
  } catch (const Error& error) {
    log::warn("the output gets no tokenizer: {}", error.what());
    return false;
  }
}

}  // namespace

fs::path check_output(const fs::path& output, bool overwrite, const std::vector<fs::path>& inputs) {
  fs::path target = output.lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "out/" is "out"
  if (!fs::exists(target)) return target;
  if (!fs::is_directory(target)) fail("{}: is a file; expected a directory", target.string());
  for (const fs::path& input : inputs) {
    if (lies_in(input, target)) {
      fail("{}: holds the input {}; choose another output directory", target.string(),
           input.string());
    }
  }
  if (fs::is_empty(target)) return target;
  if (!fs::exists(target / "config.json")) {
    fail("{}: holds files that are no model; choose another output directory", target.string());
  }
  if (!overwrite) {
    fail("{}: holds a model already; choose another output directory or give --overwrite",
         target.string());
  }
  return target;
}

void copy_tokenizer(const fs::path& model, const fs::path& directory) {
  if (has_tokenizer(model)) {
    text::save_tokenizer(model, directory);
  } else if (fs::exists(model / kGenerationConfig)) {
    write_text(directory / kGenerationConfig, read_text(model / kGenerationConfig));
  }
}

void write_config(io::ModelConfig config, DType dtype,
                  const std::optional<io::BnbQuantizationConfig>& quantization,
                  const fs::path& directory) {
  config.dtype = dtype;
  Json json = io::to_hf_json(config);
  json.erase("quantization_config");
  if (quantization) json["quantization_config"] = io::to_json(*quantization);
  write_text(directory / "config.json", json.dump(2) + "\n");
}

}  // namespace qlora::run
