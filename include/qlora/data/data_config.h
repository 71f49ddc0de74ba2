#pragma once
// Section `data`: what is learned.

#include "qlora/base/constraints.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace qlora::data {

// The columns of a row.
enum class DataFormat {
  Auto,              // by the columns of the first row
  Instruction,       // instruction, input (may be empty), output
  Messages,          // messages: [{role, content}, ...]
  PromptCompletion,  // prompt, completion
};

constexpr std::array<EnumName<DataFormat>, 4> enum_names(DataFormat /*tag*/) {
  return {{{DataFormat::Auto, "auto"},
           {DataFormat::Instruction, "instruction"},
           {DataFormat::Messages, "messages"},
           {DataFormat::PromptCompletion, "prompt_completion"}}};
}

// What a row of a .txt file is (datasets' sample_by).
enum class SampleBy { Line, Paragraph, Document };

constexpr std::array<EnumName<SampleBy>, 3> enum_names(SampleBy /*tag*/) {
  return {{{SampleBy::Line, "line"},
           {SampleBy::Paragraph, "paragraph"},
           {SampleBy::Document, "document"}}};
}

struct DataConfig {
  std::string train;
  std::optional<std::string> validation;
  double validation_split = 0.0;
  DataFormat format = DataFormat::Auto;
  std::int64_t max_length = 1024;  // tokens, TRL's default

  template <class V>
  void visit(V&& v) {
    v.field("train", train, "JSON or JSONL file of training samples", Required{});
    v.field("validation", validation, "the same for evaluation; null is none");
    v.field("validation_split", validation_split,
            "share of the training samples that is kept for evaluation instead",
            fraction_below_one());
    v.check(!(validation && validation_split > 0), "validation_split",
            "validation and validation_split are both set; expected one of them at most");
    v.field("format", format, "columns of a row");
    v.field("max_length", max_length, "longer samples are cut to this many tokens", at_least(2));
  }
};

}  // namespace qlora::data
