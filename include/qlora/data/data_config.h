#pragma once
// Section `data`: what is learned.

#include "qlora/base/constraints.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlora::data {

// The columns of a row.
enum class DataFormat {
  Auto,              // by the columns of a file's first row
  Instruction,       // instruction, input (may be empty), output
  Dolly,             // instruction, context (may be empty), response
  Kullm,             // instruction, instances: [{input, output}, ...]
  QuestionAnswer,    // question, answer (or query, response; Q, A ...)
  Messages,          // messages: [{role, content}, ...]
  ShareGpt,          // conversations: [{from, value}, ...]
  PromptCompletion,  // prompt, completion
  Text,              // text
  Tokens,            // input_ids, labels
  Classification,    // text, label
};

constexpr std::array<EnumName<DataFormat>, 12> enum_names(DataFormat /*tag*/) {
  return {{{DataFormat::Auto, "auto"},
           {DataFormat::Instruction, "instruction"},
           {DataFormat::Instruction, "alpaca"},
           {DataFormat::Dolly, "dolly"},
           {DataFormat::Kullm, "kullm"},
           {DataFormat::QuestionAnswer, "question_answer"},
           {DataFormat::Messages, "messages"},
           {DataFormat::ShareGpt, "sharegpt"},
           {DataFormat::PromptCompletion, "prompt_completion"},
           {DataFormat::Text, "text"},
           {DataFormat::Tokens, "tokens"},
           {DataFormat::Classification, "classification"}}};
}

// What a row of a .txt file is (datasets' sample_by).
enum class SampleBy { Line, Paragraph, Document };

constexpr std::array<EnumName<SampleBy>, 3> enum_names(SampleBy /*tag*/) {
  return {{{SampleBy::Line, "line"},
           {SampleBy::Paragraph, "paragraph"},
           {SampleBy::Document, "document"}}};
}

// What a bad row does.
enum class OnError { Stop, Skip };

constexpr std::array<EnumName<OnError>, 2> enum_names(OnError /*tag*/) {
  return {{{OnError::Stop, "stop"}, {OnError::Skip, "skip"}}};
}

// What becomes of a sample that is longer than max_length (TRL's truncation_mode and more).
enum class TruncationMode { KeepStart, KeepEnd, Split, Drop };

constexpr std::array<EnumName<TruncationMode>, 4> enum_names(TruncationMode /*tag*/) {
  return {{{TruncationMode::KeepStart, "keep_start"},
           {TruncationMode::KeepEnd, "keep_end"},
           {TruncationMode::Split, "split"},
           {TruncationMode::Drop, "drop"}}};
}

// Which of the tokens that end a turn are learned (axolotl's train_on_eos).
enum class TrainOnEos {
  Turn,  // those of the answers that are learned
  Last,  // that of the conversation's last answer
  All,   // those of the other turns, too
  None,
};

constexpr std::array<EnumName<TrainOnEos>, 4> enum_names(TrainOnEos /*tag*/) {
  return {{{TrainOnEos::Turn, "turn"},
           {TrainOnEos::Last, "last"},
           {TrainOnEos::All, "all"},
           {TrainOnEos::None, "none"}}};
}

// An entry of data.train or data.validation.
struct SourceConfig {
  std::string path;
  double weight = 1.0;
  // Nothing: as data.format and data.template say.
  std::optional<DataFormat> format;
  std::optional<std::string> prompt_template;

  template <class V>
  void visit(V&& v) {
    v.field("path", path,
            "a file (JSON, JSONL, CSV, TSV, text, also .gz and .zst; Parquet), a directory or a "
            "pattern",
            Required{}, Positional{});
    v.field("weight", weight,
            "how many times an epoch of training has the source; 0.5: a random half of it",
            at_least(0));
    v.field("format", format, "columns of a row of this source, in place of data.format");
    v.field("template", prompt_template,
            "a prompt for this source, in place of data.template; an empty text: none");
  }
};

struct DataConfig {
  std::vector<SourceConfig> train;
  std::vector<SourceConfig> validation;
  double validation_split = 0.0;
  DataFormat format = DataFormat::Auto;
  std::optional<std::string> prompt_template;
  std::optional<std::string> chat_template;
  bool train_on_inputs = false;
  TrainOnEos train_on_eos = TrainOnEos::Turn;
  bool mask_history = false;
  std::vector<std::string> rename_columns;
  std::optional<std::string> weight_column;
  SampleBy sample_by = SampleBy::Line;
  OnError on_error = OnError::Stop;
  std::optional<std::int64_t> max_samples;
  std::int64_t max_length = 1024;  // tokens, TRL's default
  TruncationMode truncation_mode = TruncationMode::KeepStart;
  bool packing = false;
  std::optional<std::string> cache_dir;

  template <class V>
  void visit(V&& v) {
    v.list("train", train,
           "sources of training samples: the path of one, [a.jsonl, b.csv], or with more about a "
           "source, [a.jsonl, {path: b.csv, weight: 2, format: question_answer}]",
           Required{});
    v.list("validation", validation, "the same as train for evaluation, without weights");
    v.check(std::ranges::all_of(validation, [](const auto& source) { return source.weight == 1; }),
            "validation", "a source has a weight; what is evaluated on counts once");
    v.field("validation_split", validation_split,
            "share of the training samples that is kept for evaluation instead",
            fraction_below_one());
    v.check(validation.empty() || validation_split == 0, "validation_split",
            "validation and validation_split are both set; expected one of them at most");
    v.field("format", format, "columns of a row, where its source says nothing else");
    v.field("template", prompt_template,
            "a prompt in place of the chat template: alpaca, dolly, or a text with {columns}, "
            "learned from the last one on or between {% generation %} and {% endgeneration %}; "
            "where the source says nothing else");
    v.field("chat_template", chat_template,
            "in place of the model's own: chatml, llama-2, llama-3, llama-3.1, mistral, qwen, "
            "qwen-3, gemma, phi-3, exaone-3.5, exaone-4, a file of Jinja, or Jinja itself");
    v.check(!(chat_template && prompt_template), "chat_template",
            "chat_template and template are both set; expected one of them at most");
    v.field("train_on_inputs", train_on_inputs, "learn the prompts, too");
    v.field("train_on_eos", train_on_eos, "which of the tokens that end a turn are learned");
    v.field("mask_history", mask_history, "of a conversation learn the last answer alone");
    v.field("rename_columns", rename_columns, "columns under other names: [query=instruction]");
    v.field("weight_column", weight_column,
            "column of a number above 0 that weighs the sample's tokens in the loss; null: all 1");
    v.field("sample_by", sample_by, "what a row of a .txt file is");
    v.field("on_error", on_error, "what a bad row does: skip counts it and goes on");
    v.field("max_samples", max_samples, "at most so many samples of each source, from its start",
            at_least(1));
    v.field("max_length", max_length, "most tokens of a sample, and of a packed row", at_least(2));
    v.field("truncation_mode", truncation_mode,
            "what a longer sample loses: its end, its start, nothing (split: the rest becomes "
            "further samples), or all of it (drop)");
    v.field("packing", packing,
            "fill rows of max_length tokens with several samples each, by best fit over all of "
            "them; a sample sees itself alone");
    v.field("cache_dir", cache_dir,
            "folder of tokenized samples, which runs share; null is $QLORA_CACHE_DIR, else "
            "~/.cache/qlora; an empty text keeps none");
  }
};

}  // namespace qlora::data
