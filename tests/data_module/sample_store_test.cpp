#include "qlora/data/sample_store.h"
#include "data/sample_writer.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

namespace qlora::data {
namespace {

constexpr auto kNo = static_cast<std::int32_t>(kNotLearned);

// Sample i has i tokens, every third one learned.
Sample sample_of(std::int32_t i) {
  Sample sample;
  for (std::int32_t t = 0; t < i; ++t) {
    sample.ids.push_back(i + t);
    sample.labels.push_back(t % 3 == 1 ? i + t : kNo);
  }
  sample.id = 1000 + i;
  sample.file = i % 2;
  sample.line = 7 * i;
  sample.weight = 0.5f * static_cast<float>(i + 1);
  return sample;
}

std::vector<Sample> samples(std::int32_t count) {
  std::vector<Sample> list;
  for (std::int32_t i = 0; i < count; ++i) list.push_back(sample_of(i));
  return list;
}

void expect_equal(const Sample& got, const Sample& expected) {
  EXPECT_EQ(got.ids, expected.ids);
  EXPECT_EQ(got.labels, expected.labels);
  EXPECT_EQ(got.id, expected.id);
  EXPECT_EQ(got.file, expected.file);
  EXPECT_EQ(got.line, expected.line);
  EXPECT_EQ(got.weight, expected.weight);
}

TEST(SampleStore, KeepsSamplesAsTheyAre) {
  // About 4 MiB of records: several flushes of the writer.
  const SampleStore store(samples(1500));
  ASSERT_EQ(store.size(), 1500);
  for (std::int32_t i = 1499; i >= 0; --i) {
    EXPECT_EQ(store.length(i), i);
    expect_equal(store.get(i), sample_of(i));
  }
  EXPECT_TRUE(SampleStore().empty());
}

TEST(SampleStore, KeepsTheLargestTokenAndTokenZero) {
  const Sample edge{{0, 0x7fffffff, 0x7fffffff}, {kNo, kNo, 0x7fffffff}};
  expect_equal(SampleStore(std::span(&edge, 1)).get(0), edge);
}

TEST(SampleStore, SeveralThreadsMayRead) {
  const SampleStore store(samples(400));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&store] {
      for (std::int32_t i = 0; i < 400; ++i) expect_equal(store.get(i), sample_of(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(SampleStore, IsDividedInOrder) {
  SampleStore store(samples(6));
  const SampleStore taken = store.take({false, true, false, false, true, true});
  ASSERT_EQ(taken.size(), 3);
  ASSERT_EQ(store.size(), 3);
  expect_equal(taken.get(0), sample_of(1));
  expect_equal(taken.get(2), sample_of(5));
  expect_equal(store.get(1), sample_of(2));
}

TEST(SampleStore, CopiesHaveIdsOfTheirOwn) {
  SampleStore store(samples(3));
  store.repeat(2, 1);
  store.repeat(2, 2);
  ASSERT_EQ(store.size(), 5);
  Sample expected = sample_of(2);
  expected.id = 1002 + (std::int64_t{2} << 40);
  expect_equal(store.get(4), expected);
}

TEST(SampleStore, AWriterStartsAnewAfterFinish) {
  SampleWriter writer;
  writer.append(sample_of(3));
  const SampleStore first = writer.finish();
  writer.append(sample_of(5));
  const SampleStore second = writer.finish();
  expect_equal(first.get(0), sample_of(3));
  expect_equal(second.get(0), sample_of(5));
}

TEST(SampleStore, NamesTheFolderThatCannotBeWritten) {
  const char* const before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("TMPDIR", "/nowhere", 1);
  const std::string message = qlora::test::message_of([] { SampleStore store(samples(1)); });
  before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", kept.c_str(), 1);
  EXPECT_EQ(message,
            "/nowhere: the file of tokens cannot be made: No such file or directory; "
            "set TMPDIR to a folder with room");
}

}  // namespace
}  // namespace qlora::data
