#pragma once
// Where tests find their inputs, and how a test says that one is missing.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace qlora::test {

// A small golden that ships with the project: tests/data/NAME.
std::filesystem::path golden_path(const std::string& name);

// A file of the project's tree.
std::filesystem::path source_path(const std::string& name);

// A real input that does not ship: under $QLORA_TEST_DATA, else ../shared/data beside the project.
std::filesystem::path data_path(const std::string& name);

// A fresh empty folder for one test, removed at exit.
std::filesystem::path fresh_folder(const std::string& name);

// With QLORA_REQUIRE_GPU=1 a missing input or a missing GPU is a failure, not a skip.
bool must_not_skip();

}  // namespace qlora::test

// Skips the running test where the path is absent, and says so.
#define QLORA_REQUIRE_DATA(path)                                           \
  do {                                                                     \
    if (!std::filesystem::exists(path)) {                                  \
      if (::qlora::test::must_not_skip()) FAIL() << path << " is missing"; \
      GTEST_SKIP() << path << " is not on this machine";                   \
    }                                                                      \
  } while (false)
