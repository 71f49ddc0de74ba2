#include "support/test_data.h"

#include "qlora/base/directory.h"

#include <unistd.h>

#include <cstdlib>

namespace qlora::test {
namespace fs = std::filesystem;

fs::path source_path(const std::string& name) {
  // On a machine that only runs the tests, the tree is the working directory.
  const fs::path built_from = QLORA_SOURCE_DIR;
  return (fs::exists(built_from) ? built_from : fs::current_path()) / name;
}

fs::path golden_path(const std::string& name) { return source_path("tests/data") / name; }

fs::path data_path(const std::string& name) {
  if (const char* folder = std::getenv("QLORA_TEST_DATA")) return fs::path(folder) / name;
  return source_path("../shared/data") / name;
}

fs::path fresh_folder(const std::string& name) {
  static const fs::path root = [] {
    const fs::path path = fs::temp_directory_path() / ("qlora-tests-" + std::to_string(::getpid()));
    std::atexit([] {
      remove_tree(fs::temp_directory_path() / ("qlora-tests-" + std::to_string(::getpid())));
    });
    return path;
  }();
  remove_tree(root / name);
  fs::create_directories(root / name);
  return root / name;
}

bool must_not_skip() {
  const char* value = std::getenv("QLORA_REQUIRE_GPU");
  return value != nullptr && std::string(value) == "1";
}

}  // namespace qlora::test
