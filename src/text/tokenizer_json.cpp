#include "text/tokenizer_json.h"

#include "qlora/base/narrow.h"
#include "text/byte_alphabet.h"
#include "text/pre_tokenizer.h"

#include <algorithm>

namespace qlora::text {
namespace {

const Json& member(const Json& object, std::string_view key) {
  static const Json none;
  const Json* value = json_find(object, key);
  return value == nullptr ? none : *value;
}

std::vector<std::string> place_tokens(const Vocabulary& vocabulary, bool byte_level,
                                      std::string_view where) {
  std::int32_t greatest = -1;
  for (const auto& [text, id] : vocabulary) greatest = std::max(greatest, id);
  if (static_cast<std::size_t>(greatest) + 1 > 2 * vocabulary.size() + 65536) {
    fail("{}: {} tokens, but an id of {}; expected ids without large gaps", where,
         vocabulary.size(), greatest);
  }
  std::vector<std::string> tokens(greatest + 1);
  for (const auto& [text, id] : vocabulary) {
    if (!tokens[id].empty()) fail("{}: two tokens have the id {}", where, id);
    // A token outside the byte alphabet is an added one; BPE cannot produce it.
    tokens[id] = byte_level ? bytes_from_alphabet(text).value_or(text) : text;
  }
  return tokens;
}

class MergeReader {
 public:
  MergeReader(const Vocabulary& vocabulary, std::string_view where) : where_(where) {
    ids_.reserve(vocabulary.size());
    for (const auto& [text, id] : vocabulary) ids_.emplace(text, id);
  }

  // "left right", or ["left", "right"] where tokens may hold spaces.
  MergeRule read(const Json& merge, std::int32_t rank) const {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        return rule(text.substr(0, space), text.substr(space + 1), rank);
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      return rule(merge[0].get<std::string>(), merge[1].get<std::string>(), rank);
    }
    fail("{}: merge {} is not a pair of tokens", where_, rank);
  }

 private:
  MergeRule rule(const std::string& left, const std::string& right, std::int32_t rank) const {
    return {id(left, rank), id(right, rank), rank, id(left + right, rank)};
  }
  std::int32_t id(const std::string& token, std::int32_t rank) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) {
      fail("{}: merge {} needs the token '{}', which the vocabulary lacks", where_, rank, token);
    }
    return found->second;
  }

  std::string_view where_;
  TokenIds ids_;
};

std::vector<MergeRule> read_merges(const Json& merges, const Vocabulary& vocabulary,
                                   std::string_view where) {
  if (!merges.is_array()) fail("{}: model.merges is missing; expected a list", where);
  const MergeReader reader(vocabulary, where);
  std::vector<MergeRule> rules;
  rules.reserve(merges.size());
  for (const Json& merge : merges) {
    rules.push_back(reader.read(merge, narrow<std::int32_t>(rules.size())));
  }
  return rules;
}

std::vector<AddedToken> read_added(const Json& list, std::string_view where) {
  std::vector<AddedToken> added;
  if (list.is_null()) return added;
  if (!list.is_array()) fail("{}: added_tokens is not a list", where);
  for (const Json& item : list) {
    const auto flag = [&](const char* key) { return json_get_or<bool>(item, key, false, where); };
    added.push_back({.id = narrow<std::int32_t>(json_get<std::int64_t>(item, "id", where)),
                     .content = json_get<std::string>(item, "content", where),
                     .special = flag("special"),
                     .lstrip = flag("lstrip"),
                     .rstrip = flag("rstrip"),
                     .single_word = flag("single_word"),
                     .normalized = flag("normalized")});
  }
  return added;
}

// Whether the decoder takes the first space away: Strip{" ", 1} or Metaspace with a prefix.
bool strips_first_space(const Json& decoder) {
  const Json& type = member(decoder, "type");
  if (type == "Strip") return member(decoder, "content") == " " && member(decoder, "start") == 1;
  if (type == "Metaspace") {
    return member(decoder, "prepend_scheme") != "never" &&
           member(decoder, "add_prefix_space") != false;
  }
  const Json& list = member(decoder, "decoders");
  return list.is_array() && std::any_of(list.begin(), list.end(), strips_first_space);
}

// The token that a TemplateProcessing puts before a single text.
std::optional<std::int32_t> template_prefix(const Json& processor) {
  const Json& list = member(processor, "processors");
  if (list.is_array()) {
    for (const Json& item : list) {
      if (const auto prefix = template_prefix(item)) return prefix;
    }
  }
  const Json& single = member(processor, "single");
  if (!single.is_array() || single.empty()) return std::nullopt;
  const Json& name = member(member(single[0], "SpecialToken"), "id");
  if (!name.is_string()) return std::nullopt;
  const Json& token = member(member(processor, "special_tokens"), name.get<std::string>());
  const Json& ids = member(token, "ids");
  const bool one = ids.is_array() && ids.size() == 1 && ids[0].is_number_unsigned();
  return one ? std::optional(narrow<std::int32_t>(ids[0].get<std::uint64_t>())) : std::nullopt;
}

void refuse_affixes(const Json& model, std::string_view where) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json_get_or<std::string>(model, key, "", where).empty()) {
      fail("{}: a BPE model with '{}' is not supported", where, key);
    }
  }
  if (json_get_or<double>(model, "dropout", 0.0, where) != 0.0) {
    fail("{}: a BPE model with 'dropout' is not supported", where);
  }
}

}  // namespace

std::string unsupported_model(const TokenizerFile& file) {
  const Json& type = member(member(file.rest, "model"), "type");
  // The oldest files (GPT-2's) do not say.
  if (type.is_null() || type == "BPE") return "";
  return fmt::format("a model of type {}", type.dump());
}

BpeDescription describe_bpe(const TokenizerFile& file, std::string_view where) {
  const Json& model = member(file.rest, "model");
  if (const std::string reason = unsupported_model(file); !reason.empty()) {
    fail("{}: {} is not supported here; expected BPE, or a sentencepiece tokenizer.model beside it",
         where, reason);
  }
  if (!model.is_object() || file.vocabulary.empty()) {
    fail("{}: expected a BPE model with a vocabulary", where);
  }
  refuse_affixes(model, where);
  BpeDescription out;
  out.normalizer = member(file.rest, "normalizer");
  out.pre_tokenizer = member(file.rest, "pre_tokenizer");
  const bool byte_level = PreTokenizer(out.pre_tokenizer, where).byte_level();
  out.tokens = place_tokens(file.vocabulary, byte_level, where);
  out.merges = read_merges(member(model, "merges"), file.vocabulary, where);
  out.added = read_added(member(file.rest, "added_tokens"), where);
  out.ignore_merges = json_get_or<bool>(model, "ignore_merges", false, where);
  out.byte_fallback = json_get_or<bool>(model, "byte_fallback", false, where);
  out.fuse_unknown = json_get_or<bool>(model, "fuse_unk", false, where);
  if (const auto name = json_get_or<std::string>(model, "unk_token", "", where); !name.empty()) {
    const auto found = std::find_if(file.vocabulary.begin(), file.vocabulary.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (found == file.vocabulary.end()) fail("{}: the unk_token '{}' is no token", where, name);
    out.unknown = found->second;
  }
  out.strips_first_space = !byte_level && strips_first_space(member(file.rest, "decoder"));
  out.prefix_token = template_prefix(member(file.rest, "post_processor"));
  return out;
}

}  // namespace qlora::text
