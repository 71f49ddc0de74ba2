#include "data/source_samples.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"

namespace qlora::data {
namespace {

Json to_json(const SourceStats& source, const SourceFindings& findings,
             const text::Tokenizer& tokenizer) {
  Json skipped = Json::array();
  for (const SkippedRows& rows : source.skipped) {
    skipped.push_back({{"reason", rows.reason}, {"rows", rows.rows}, {"first", rows.first}});
  }
  Json specials = Json::array();
  for (const SpecialTokenUse& use : findings.special_tokens) {
    specials.push_back({{"id", use.id},
                        {"token", tokenizer.token_bytes(use.id)},
                        {"times", use.times},
                        {"learned", use.learned}});
  }
  return {{"name", source.name},
          {"formats", source.formats},
          {"files", source.files},
          {"rows", source.rows},
          {"samples", source.samples},
          {"tokens", source.tokens},
          {"learned_tokens", source.learned_tokens},
          {"longest", source.longest},
          {"truncated", source.truncated},
          {"tokens_cut", source.tokens_cut},
          {"dropped", {{"no_answer", source.no_answer}, {"answer_cut", source.answer_cut}}},
          {"without_end", source.without_end},
          {"calls_left_out", source.calls_left_out},
          {"skipped", skipped},
          {"held_out", source.held_out},
          {"per_epoch", source.per_epoch},
          {"duplicates", findings.duplicates},
          {"special_tokens", specials}};
}

// Bytes that are no UTF-8 come out as U+FFFD.
std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void write_preview_json(const Dataset& dataset, const SplitSamples& samples,
                        const text::Tokenizer& tokenizer, const std::filesystem::path& path) {
  const std::vector<SourceFindings> findings = examine(dataset.sources, samples, tokenizer);
  AtomicFile file(path);
  file.write(std::string_view("{\"sources\": ["));
  for (std::size_t i = 0; i < findings.size(); ++i) {
    file.write((i == 0 ? "\n" : ",\n") + dump(to_json(dataset.sources[i], findings[i], tokenizer)));
  }
  file.write(std::string_view("],\n\"samples\": ["));
  bool first = true;
  for_each_sample(dataset.sources, samples,
                  [&](const Sample& sample, std::size_t source, bool is_validation) {
                    const Json entry{{"split", is_validation ? "validation" : "train"},
                                     {"source", dataset.sources[source].name},
                                     {"file", dataset.files[static_cast<std::size_t>(sample.file)]},
                                     {"row", sample.line},
                                     {"input_ids", sample.ids},
                                     {"labels", sample.labels},
                                     {"text", tokenizer.decode(sample.ids)}};
                    file.write((first ? "\n" : ",\n") + dump(entry));
                    first = false;
                  });
  file.write(std::string_view("]}\n"));
  file.commit();
}

}  // namespace qlora::data
