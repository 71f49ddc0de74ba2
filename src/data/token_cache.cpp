#include "data/token_cache.h"

#include "data/kept_samples.h"
#include "qlora/base/cache_directory.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/base/log.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "qlora/base/random.h"
#include "qlora/text/chat_template.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

namespace qlora::data {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kHashedBytes = std::size_t{1} << 20;  // of a file at a time

std::uint64_t content_hash(const fs::path& path) {
  const MappedFile file(path);
  const auto pieces = static_cast<std::int64_t>(div_up(file.bytes().size(), kHashedBytes));
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(pieces));
  parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto first = static_cast<std::size_t>(i) * kHashedBytes;
      const auto piece =
          file.bytes().subspan(first, std::min(kHashedBytes, file.bytes().size() - first));
      hashes[static_cast<std::size_t>(i)] =
          stable_hash({reinterpret_cast<const char*>(piece.data()), piece.size()});
      file.drop(piece);
    }
  });
  return stable_hash(
      {reinterpret_cast<const char*>(hashes.data()), hashes.size() * sizeof(hashes[0])});
}

// Settings that decide nothing about the samples of a list of sources, or that stand with each of
// the sources.
constexpr std::array<std::string_view, 5> kOtherSettings{"format", "template", "validation_split",
                                                         "packing", "cache_dir"};

// Every other setting by name, so that a new one counts from its first day.
class SettingsReader {
 public:
  template <class T, class... Constraints>
  void field(std::string_view key, const T& value, const Constraints&...) {
    if (std::ranges::find(kOtherSettings, key) == kOtherSettings.end()) {
      settings_[std::string(key)] = json_of(value);
    }
  }
  // The sources stand in the key one by one.
  template <class S, class... Constraints>
  void list(std::string_view, const std::vector<S>&, const Constraints&...) {}
  void check(bool, std::string_view, std::string_view) {}
  Json take() { return std::move(settings_); }

 private:
  template <NamedEnum E>
  static Json json_of(E value) {
    return enum_name(value);
  }
  template <class T>
  static Json json_of(const std::optional<T>& value) {
    return value ? json_of(*value) : Json();
  }
  template <class T>
  requires(!NamedEnum<T>) static Json json_of(const T& value) { return value; }

  Json settings_ = Json::object();
};

Json settings_of(DataConfig config) {
  SettingsReader reader;
  config.visit(reader);
  return reader.take();
}

Json to_json(SourceStats stats) {
  Json json = Json::object();
  stats.visit([&](const char* key, auto& value) { json[key] = value; });
  json["skipped"] = Json::array();
  for (const SkippedRows& skipped : stats.skipped) {
    json["skipped"].push_back({skipped.reason, skipped.rows, skipped.first});
  }
  return json;
}

// A new member must come into visit, or it would be lost here.
static_assert(sizeof(SourceStats) == 2 * sizeof(std::string) + 16 * sizeof(std::int64_t) +
                                         sizeof(std::vector<SkippedRows>));

SourceStats stats_from_json(const Json& json) {
  SourceStats stats;
  stats.visit([&](const char* key, auto& value) {
    value = json.at(key).get<std::remove_reference_t<decltype(value)>>();
  });
  for (const Json& skipped : json.at("skipped")) {
    stats.skipped.push_back({skipped.at(0), skipped.at(1), skipped.at(2)});
  }
  return stats;
}

}  // namespace

fs::path cache_folder(const DataConfig& config) {
  return config.cache_dir ? fs::path(*config.cache_dir) : cache_directory();
}

TokenCache::TokenCache(const DataConfig& config, const text::Tokenizer& tokenizer,
                       const std::vector<DataSource>& sources, std::size_t first_file) {
  const fs::path folder = cache_folder(config);
  if (folder.empty() || tokenizer.definition_hash() == 0) return;
  Json key{{"tokenizer", tokenizer.definition_hash()},
           {"settings", settings_of(config)},
           {"first_file", first_file},
           {"sources", Json::array()}};
  try {
    // The setting may name a file.
    if (config.chat_template) {
      key["chat_template"] = text::find_chat_template(*config.chat_template, "data.chat_template");
    }
    key["program"] = content_hash("/proc/self/exe");
    for (const DataSource& source : sources) {
      Json files = Json::array();
      for (const fs::path& path : source.files) {
        files_.push_back({path, fs::file_size(path), fs::last_write_time(path)});
        files.push_back({path.string(), files_.back().size, content_hash(path)});
      }
      key["sources"].push_back({source.name, enum_name(source.format), source.prompt_text, files});
    }
    key_ = key.dump();
  } catch (const std::exception&) {  // a path that is not UTF-8; else reading says what is wrong
    return;
  }
  path_ = folder / fmt::format("{:016x}.samples", stable_hash(key_));
}

std::optional<TokenizedSources> TokenCache::find() const {
  if (path_.empty() || !fs::exists(path_)) return std::nullopt;
  std::optional<KeptSamples> kept = open_kept_samples(path_);
  const Json text = kept ? Json::parse(kept->text, nullptr, false) : Json();
  if (!text.is_object() || text.value("key", "") != key_) {
    log::warn("{}: not whole; the samples are tokenized again", path_.string());
    std::error_code ignored;
    fs::remove(path_, ignored);
    return std::nullopt;
  }
  TokenizedSources found{
      .samples = std::move(kept->samples), .files = text.at("files"), .sources = {}};
  for (const Json& source : text.at("sources")) found.sources.push_back(stats_from_json(source));
  log::info("{} tokenized samples from {}", found.samples.size(), path_.string());
  return found;
}

std::shared_ptr<SampleFile> TokenCache::make_file() {
  if (path_.empty()) return nullptr;
  std::string problem;
  auto file = SampleFile::to_be_kept(path_.parent_path(), problem);
  if (!file) {
    log::warn("{}: tokenized samples cannot be kept: {}; set data.cache_dir",
              path_.parent_path().string(), problem);
    path_.clear();
  }
  return file;
}

SampleStore TokenCache::keep(SampleWriter& samples, std::span<const std::string> files,
                             std::span<const SourceStats> sources) const {
  for (const FileState& file : files_) {
    if (fs::file_size(file.path) == file.size && fs::last_write_time(file.path) == file.written) {
      continue;
    }
    fail("{}: changed while it was read; start again when it is complete", file.path.string());
  }
  if (path_.empty()) return samples.finish();
  Json text{{"key", key_}, {"files", files}, {"sources", Json::array()}};
  for (const SourceStats& source : sources) text["sources"].push_back(to_json(source));
  // What a skipped row's error quotes need not be UTF-8.
  return samples.finish_as(path_, text.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace qlora::data
