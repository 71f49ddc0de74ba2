#pragma once
// Fuzzing: inputs that are almost right, each a pure function of its number.

#include "qlora/base/error.h"
#include "qlora/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace qlora::test {

// Real inputs with up to eight pieces cut out, doubled, moved in from another input, or replaced by
// words of their language or by any byte.
class Mutations {
 public:
  // Neither list may be empty.
  Mutations(std::vector<std::string> inputs, std::vector<std::string> words)
      : inputs_(std::move(inputs)), words_(std::move(words)) {}

  std::string make(std::uint64_t number) const {
    Draws draws{RandomStream(number, "mutation")};
    std::string text = pick(inputs_, draws);
    for (std::uint64_t left = 1 + draws.below(1 + draws.below(8)); left > 0; --left) {
      const std::size_t at = draws.below(text.size() + 1);
      const std::size_t count = draws.below(std::min<std::size_t>(text.size() - at, 64) + 1);
      switch (draws.below(5)) {
        case 0: text.erase(at, count); break;
        case 1: text.insert(at, text.substr(at, count)); break;
        case 2: text.replace(at, count, pick(words_, draws)); break;
        case 3: text.insert(at, 1, static_cast<char>(draws.below(256))); break;
        default: {
          const std::string& other = pick(inputs_, draws);
          text.insert(at, other.substr(draws.below(other.size() + 1), draws.below(256)));
        }
      }
    }
    return text;
  }

 private:
  struct Draws {
    RandomStream stream;
    std::uint64_t next = 0;
    std::size_t below(std::size_t limit) { return stream.bits(next++) % limit; }
  };

  static const std::string& pick(const std::vector<std::string>& list, Draws& draws) {
    return list[draws.below(list.size())];
  }

  std::vector<std::string> inputs_;
  std::vector<std::string> words_;
};

// Calls attempt(number) with 0, 1, ... `runs` times. An Error is an answer; anything else that it
// throws, and more than ten seconds for one input, fails the test. QLORA_FUZZ_SECONDS makes it run
// for so long instead, from QLORA_FUZZ_FROM on, and tell where it is and what took longest.
template <class Attempt>
void fuzz(std::uint64_t runs, Attempt attempt) {
  using Clock = std::chrono::steady_clock;
  const auto setting = [](const char* name) {
    const char* const text = std::getenv(name);
    return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  };
  const std::uint64_t first = setting("QLORA_FUZZ_FROM");
  const std::chrono::seconds limit(setting("QLORA_FUZZ_SECONDS"));
  const auto start = Clock::now();
  std::pair<Clock::duration, std::uint64_t> slowest{0, first};
  for (std::uint64_t i = first; limit.count() > 0 || i < first + runs; ++i) {
    const auto begin = Clock::now();
    if (limit.count() > 0 && begin - start > limit) {
      std::fprintf(stderr, "fuzzed inputs %llu to %llu; the slowest is %llu: %.3f s\n",
                   (unsigned long long)first, (unsigned long long)i,
                   (unsigned long long)slowest.second,
                   std::chrono::duration<double>(slowest.first).count());
      break;
    }
    if (limit.count() > 0 && i % 1000 == 0)
      std::fprintf(stderr, "at %llu\n", (unsigned long long)i);
    try {
      attempt(i);
    } catch (const Error&) {  // an answer
    } catch (const std::exception& error) {
      ADD_FAILURE() << "input " << i << ": " << error.what();
    }
    const auto taken = Clock::now() - begin;
    EXPECT_LT(taken, std::chrono::seconds(10)) << "input " << i;
    slowest = std::max(slowest, {taken, i});
  }
}

}  // namespace qlora::test
