#include "data/length_groups.h"

#include <algorithm>

namespace qlora::data {
namespace {

constexpr std::int64_t kMaxUpdatesPerChunk = 50;
constexpr std::int64_t kMinChunks = 4;

}  // namespace

void group_by_length(std::vector<std::int64_t>& order, std::int64_t update,
                     const std::function<std::int64_t(std::int64_t sample)>& length) {
  const std::int64_t count = std::ssize(order);
  const std::int64_t updates =
      std::clamp<std::int64_t>(count / (update * kMinChunks), 1, kMaxUpdatesPerChunk);
  auto longest = order.begin();
  for (std::int64_t begin = 0; begin < count; begin += updates * update) {
    const auto chunk = order.begin() + begin;
    const auto end = order.begin() + std::min(begin + updates * update, count);
    std::stable_sort(chunk, end, [&](auto a, auto b) { return length(a) > length(b); });
    if (length(*chunk) > length(*longest)) longest = chunk;
  }
  std::iter_swap(order.begin(), longest);
}

}  // namespace qlora::data
