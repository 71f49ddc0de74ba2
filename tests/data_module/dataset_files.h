#pragma once
// Small files of rows as data sets, and what goes wrong with them.

#include "data_module/fake_tokenizer.h"
#include "qlora/base/file.h"
#include "qlora/data/dataset.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

#include <string>

namespace qlora::data::test {

inline DataConfig config_for(const std::string& text, const std::string& name = "train.jsonl") {
  const auto path = qlora::test::fresh_folder("dataset") / name;
  write_text(path, text);
  DataConfig config;
  config.train = {{.path = path.string()}};
  return config;
}

// What loading fails with, from the name of the file on.
inline std::string error_of(const DataConfig& config) {
  const std::string what =
      qlora::test::message_of([&config] { load_dataset(config, FakeTokenizer(), 0); });
  EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  const auto name = what.find("train.jsonl");
  return what.empty() ? "no error" : name == std::string::npos ? what : what.substr(name);
}

inline std::string text_of(const DataConfig& config) {
  const FakeTokenizer tokenizer;
  return tokenizer.decode(load_dataset(config, tokenizer, 0).train.get(0).ids);
}

inline std::string many_rows(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format("{{\"instruction\": \"q{}\", \"output\": \"a\"}}\n", i);
  }
  return text;
}

}  // namespace qlora::data::test
