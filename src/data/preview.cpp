#include "qlora/data/preview.h"

#include "data/source_samples.h"
#include "qlora/base/random.h"
#include "qlora/text/utf8.h"

#include <algorithm>
#include <map>
#include <unordered_set>

namespace qlora::data {
namespace {

// Terminal control characters come out as \xNN; line ends and tabs stay.
std::string printable(std::string_view bytes) {
  std::string text;
  for (const char c : text::repair_utf8(bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    text += control ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return text;
}

std::string preview_sample(const Sample& sample, const text::Tokenizer& tokenizer,
                           const PreviewStyle& style) {
  const char* const open = style.colour ? "\033[32m" : "«";
  const char* const close = style.colour ? "\033[0m" : "»";
  const std::size_t shown = std::min(style.max_tokens, sample.ids.size());
  std::string text;
  for (std::size_t i = 0; i < shown;) {
    const bool learned = sample.labels[i] != kNotLearned;
    std::string bytes;
    for (; i < shown && (sample.labels[i] != kNotLearned) == learned; ++i) {
      bytes += tokenizer.token_bytes(sample.ids[i]);
    }
    text += learned ? open + printable(bytes) + close : printable(bytes);
  }
  if (shown < sample.ids.size()) {
    text += fmt::format(" ... ({} more tokens)", sample.ids.size() - shown);
  }
  return text;
}

std::uint64_t print_of(const Sample& sample) {
  const auto bytes = [](const std::vector<std::int32_t>& values) {
    return std::string_view(reinterpret_cast<const char*>(values.data()), 4 * values.size());
  };
  return stable_hash(std::string(bytes(sample.ids)).append(bytes(sample.labels)));
}

}  // namespace

std::vector<SourceFindings> examine(std::span<const SourceStats> sources,
                                    const SplitSamples& samples, const text::Tokenizer& tokenizer) {
  std::vector<SourceFindings> findings(sources.size());
  std::vector<std::map<std::int32_t, SpecialTokenUse>> uses(sources.size());
  std::unordered_set<std::uint64_t> seen;
  for_each_sample(sources, samples, [&](const Sample& sample, std::size_t source, bool) {
    findings[source].duplicates += seen.insert(print_of(sample)).second ? 0 : 1;
    for (std::size_t i = 0; i < sample.ids.size(); ++i) {
      if (!tokenizer.is_special(sample.ids[i])) continue;
      SpecialTokenUse& use = uses[source][sample.ids[i]];
      use.id = sample.ids[i];
      ++use.times;
      use.learned += sample.labels[i] != kNotLearned;
    }
  });
  for (std::size_t source = 0; source < sources.size(); ++source) {
    for (const auto& [id, use] : uses[source]) findings[source].special_tokens.push_back(use);
  }
  return findings;
}

std::string preview_samples(const SampleStore& samples, std::span<const std::string> files,
                            const text::Tokenizer& tokenizer, const PreviewStyle& style) {
  std::string text;
  for (std::int64_t i = 0; i < std::min(style.max_samples, samples.size()); ++i) {
    const Sample sample = samples.get(i);
    text +=
        fmt::format("--- {}:{}: {} tokens, {} learned ---\n{}\n",
                    files[static_cast<std::size_t>(sample.file)], sample.line, sample.ids.size(),
                    sample.label_count(), preview_sample(sample, tokenizer, style));
  }
  return text;
}

std::string preview_stats(const Dataset& dataset, std::span<const SourceFindings> findings,
                          const text::Tokenizer& tokenizer) {
  std::string text;
  const auto line = [&text](std::string_view name, std::int64_t value) {
    text += fmt::format("  {:<34}{:>12}\n", name, value);
  };
  const auto problem = [&line](std::string_view name, std::int64_t value) {
    if (value > 0) line(name, value);
  };
  for (std::size_t i = 0; i < dataset.sources.size(); ++i) {
    const SourceStats& source = dataset.sources[i];
    text += fmt::format("{} ({}format {})\n", source.name,
                        source.files > 1 ? fmt::format("{} files, ", source.files) : "",
                        source.formats);
    line("rows", source.rows);
    line("samples", source.samples);
    line("tokens", source.tokens);
    line("learned tokens", source.learned_tokens);
    line("longest sample, tokens", source.longest);
    problem("cut to data.max_length", source.truncated);
    problem("tokens cut off", source.tokens_cut);
    problem("split at data.max_length", source.split);
    problem("dropped: no answer", source.no_answer);
    problem("dropped: answer cut off", source.answer_cut);
    problem("dropped: too long", source.too_long);
    problem("no end token to learn", source.without_end);
    problem("tool calls left out by template", source.calls_left_out);
    for (const SkippedRows& skipped : source.skipped) {
      line("skipped: " + skipped.reason, skipped.rows);
      text += fmt::format("    the first: {}\n", skipped.first);
    }
    problem("held out for evaluation", source.held_out);
    const bool weighted = source.per_epoch != source.samples - source.held_out;
    if (weighted) line("samples an epoch, by the weight", source.per_epoch);
    problem("duplicates of earlier samples", findings[i].duplicates);
    if (findings[i].special_tokens.empty()) continue;
    text += "  special tokens, whose embeddings stay as they are:\n";
    for (const SpecialTokenUse& use : findings[i].special_tokens) {
      text += fmt::format("    {:<32}{:>12}, {} learned\n",
                          printable(tokenizer.token_bytes(use.id)), use.times, use.learned);
    }
  }
  return text;
}

}  // namespace qlora::data
