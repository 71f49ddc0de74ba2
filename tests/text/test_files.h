#pragma once
// Small tokenizer.json files for tests.

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/text/tokenizer.h"
#include "support/message.h"
#include "support/test_data.h"
#include "text/byte_alphabet.h"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlora::text::test_files {

// A byte-level BPE over all 256 bytes (id = byte) and these merges (ids from 256 up).
inline Json byte_level_file(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[bytes_to_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  }
  Json list = Json::array();
  int next = 256;
  for (const auto& [left, right] : merges) {
    const std::string a = bytes_to_alphabet(left), b = bytes_to_alphabet(right);
    if (!vocab.contains(a + b)) vocab[a + b] = next++;
    list.push_back(a + " " + b);
  }
  return {
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}

inline std::unique_ptr<Tokenizer> load(const Json& file, const std::string& name) {
  const auto folder = test::fresh_folder(name);
  write_text(folder / "tokenizer.json", file.dump());
  return load_tokenizer(folder);
}

// "llama-2" as a test's name.
inline std::string case_name(std::string name) {
  std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
  return name;
}

}  // namespace qlora::text::test_files
