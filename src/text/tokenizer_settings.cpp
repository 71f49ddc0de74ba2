#include "text/tokenizer_settings.h"

#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/base/narrow.h"
#include "qlora/text/chat_template.h"

#include <algorithm>
#include <charconv>

namespace qlora::text {
namespace {

namespace fs = std::filesystem;

Json read_object_if_there(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  Json json = read_json(path);
  if (!json.is_object()) fail("{}: expected a JSON object", path.string());
  return json;
}

// "bos_token": "<s>" or {"content": "<s>", ...}.
std::string token_text(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_object()) return "";
  const auto content = found->find("content");
  return content != found->end() && content->is_string() ? content->get<std::string>() : "";
}

std::vector<std::int32_t> token_ids(const Json& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  const std::vector<std::int64_t> wide =
      found->is_array() ? json_get<std::vector<std::int64_t>>(object, key, where)
                        : std::vector{json_get<std::int64_t>(object, key, where)};
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : wide) ids.push_back(narrow<std::int32_t>(id));
  return ids;
}

AddedToken read_entry(const std::string& id_text, const Json& entry, std::string_view where) {
  std::int32_t id = -1;
  const char* const end = id_text.data() + id_text.size();
  const auto parsed = std::from_chars(id_text.data(), end, id);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    fail("{}: added_tokens_decoder has the key '{}'; expected an id", where, id_text);
  }
  const auto flag = [&](const char* key) { return json_get_or<bool>(entry, key, false, where); };
  return {.id = id,
          .content = json_get<std::string>(entry, "content", where),
          .special = flag("special"),
          .lstrip = flag("lstrip"),
          .rstrip = flag("rstrip"),
          .single_word = flag("single_word"),
          .normalized = flag("normalized")};
}

}  // namespace

SettingsFiles::SettingsFiles(const fs::path& folder)
    : folder_(folder),
      config_(read_object_if_there(folder / "tokenizer_config.json")),
      special_map_(read_object_if_there(folder / "special_tokens_map.json")),
      generation_(read_object_if_there(folder / "generation_config.json")) {
  if (generation_.empty()) generation_ = read_object_if_there(folder / "config.json");
}

std::string SettingsFiles::where(const char* name) const { return (folder_ / name).string(); }

void SettingsFiles::update(std::vector<AddedToken>& added) const {
  const auto decoder = config_.find("added_tokens_decoder");
  if (decoder == config_.end()) return;
  const std::string file = where("tokenizer_config.json");
  for (const auto& [key, entry] : decoder->items()) {
    AddedToken token = read_entry(key, entry, file);
    const auto same = std::find_if(added.begin(), added.end(),
                                   [&](const AddedToken& old) { return old.id == token.id; });
    if (same == added.end()) {
      added.push_back(std::move(token));
    } else {
      *same = std::move(token);
    }
  }
}

bool SettingsFiles::legacy() const {
  return json_get_or<bool>(config_, "legacy", true, where("tokenizer_config.json"));
}

std::optional<std::int32_t> SettingsFiles::named_token(const char* key,
                                                       const Tokenizer& tokenizer) const {
  std::string text = token_text(config_, key);
  if (text.empty()) text = token_text(special_map_, key);
  if (text.empty()) return std::nullopt;
  const auto id = tokenizer.token_id(text);
  if (!id) log::warn("{}: the {} '{}' is no token of the vocabulary", folder_.string(), key, text);
  return id;
}

std::optional<std::int32_t> SettingsFiles::generation_token(const char* key) const {
  const auto ids = token_ids(generation_, key, where("generation_config.json"));
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

std::vector<std::int32_t> SettingsFiles::stop_ids(std::optional<std::int32_t> eos,
                                                  const OwnTokens& own) const {
  auto ids = token_ids(generation_, "eos_token_id", where("generation_config.json"));
  if (ids.empty() && eos == own.eos) ids = own.stop_ids;
  if (eos && std::find(ids.begin(), ids.end(), *eos) == ids.end()) ids.insert(ids.begin(), *eos);
  return ids;
}

std::string SettingsFiles::chat_template() const {
  const fs::path beside = folder_ / kChatTemplateFile;
  if (fs::exists(beside)) return read_text(beside);
  const auto found = config_.find("chat_template");
  if (found == config_.end() || found->is_null()) return "";
  const std::string file = where("tokenizer_config.json");
  if (!found->is_array()) return json_get<std::string>(config_, "chat_template", file);
  for (const Json& entry : *found) {
    if (json_get<std::string>(entry, "name", file) == "default" || found->size() == 1) {
      return json_get<std::string>(entry, "template", file);
    }
  }
  fail("{}: chat_template is a list without one named 'default'", file);
}

TokenizerSettings SettingsFiles::settings(const Tokenizer& tokenizer, const OwnTokens& own) const {
  const auto choose = [&](const char* name, const char* id_key,
                          std::optional<std::int32_t> fallback) {
    if (const auto named = named_token(name, tokenizer)) return named;
    return fallback ? fallback : generation_token(id_key);
  };
  TokenizerSettings out;
  out.bos = choose("bos_token", "bos_token_id", own.bos);
  out.eos = choose("eos_token", "eos_token_id", own.eos);
  out.pad = choose("pad_token", "pad_token_id", own.pad);
  out.stop_ids = stop_ids(out.eos, own);
  const auto text = [&](std::optional<std::int32_t> id) {
    return id ? tokenizer.token_bytes(*id) : std::string();
  };
  out.bos_token = text(out.bos);
  out.eos_token = text(out.eos);
  out.pad_token = text(out.pad);
  out.add_bos = out.bos && json_get_or<bool>(config_, "add_bos_token", own.add_bos,
                                             where("tokenizer_config.json"));
  out.chat_template = chat_template();
  return out;
}

}  // namespace qlora::text
