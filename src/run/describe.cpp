// What inspect() found, as text.

#include "qlora/base/text_util.h"
#include "qlora/io/tensor_view.h"
#include "qlora/run/inspect.h"

#include <algorithm>
#include <map>

namespace qlora::run {
namespace {

// Metadata may hold whole chat templates.
constexpr std::size_t kLongestValue = 80;

std::string value_text(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() <= kLongestValue) return text;
  // Not in the middle of a character.
  std::size_t end = kLongestValue;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string tensor_table(const Json& tensors) {
  struct Line {
    std::string name, type, shape, size;
  };
  std::vector<Line> lines;
  std::size_t name_width = 0;
  std::size_t type_width = 0;
  std::size_t shape_width = 0;
  for (const Json& tensor : tensors) {
    const auto shape = tensor.at("shape").get<std::vector<std::int64_t>>();
    lines.push_back({tensor.at("name"), tensor.at("type"), io::shape_text(shape),
                     human_bytes(tensor.at("bytes"))});
    name_width = std::max(name_width, lines.back().name.size());
    type_width = std::max(type_width, lines.back().type.size());
    shape_width = std::max(shape_width, lines.back().shape.size());
  }
  std::string text;
  for (const Line& line : lines) {
    text += fmt::format("  {:<{}}  {:<{}}  {:<{}}  {:>10}\n", line.name, name_width, line.type,
                        type_width, line.shape, shape_width, line.size);
  }
  return text;
}

// "210 Q4_1 (67.5 MiB), 62 F32 (...)"
std::string type_summary(const Json& tensors) {
  struct Sum {
    std::int64_t count = 0;
    std::int64_t bytes = 0;
  };
  std::map<std::string, Sum> sums;
  for (const Json& tensor : tensors) {
    Sum& sum = sums[tensor.at("type").get<std::string>()];
    ++sum.count;
    sum.bytes += tensor.at("bytes").get<std::int64_t>();
  }
  std::vector<std::string> parts;
  for (const auto& [type, sum] : sums) {
    parts.push_back(fmt::format("{} {} ({})", sum.count, type, human_bytes(sum.bytes)));
  }
  return join(parts);
}

std::string section(const char* title, const Json& values) {
  std::string text = fmt::format("{}\n", title);
  for (const auto& [key, value] : values.items()) {
    text += fmt::format("  {}: {}\n", key, value_text(value));
  }
  return text;
}

std::string memory_section(const Json& memory) {
  std::string text = "memory of the weights when loaded\n";
  for (const auto& [key, bytes] : memory.items()) {
    text += fmt::format("  {}: {}\n", key, human_bytes(bytes.get<std::int64_t>()));
  }
  return text;
}

}  // namespace

std::string describe(const Json& facts) {
  std::string text = fmt::format("{}: {}\n", facts.at("path").get<std::string>(),
                                 facts.at("kind").get<std::string>());
  const Json& tensors = facts.at("tensors");
  text += "tensors\n" + tensor_table(tensors);
  for (const char* key :
       {"metadata", "model", "quantization", "adapter", "training_base", "trainer_state"}) {
    if (facts.contains(key)) text += section(key, facts.at(key));
  }
  if (facts.contains("memory")) text += memory_section(facts.at("memory"));
  if (facts.contains("model_problem")) {
    text += fmt::format("not a model that can be run: {}\n", value_text(facts.at("model_problem")));
  }
  text += fmt::format("total: {} tensors, {}: {}\n", tensors.size(),
                      human_bytes(facts.at("bytes").get<std::int64_t>()), type_summary(tensors));
  return text;
}

}  // namespace qlora::run
