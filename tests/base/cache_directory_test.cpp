#include "qlora/base/cache_directory.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace qlora {
namespace {

TEST(CacheDirectory, FollowsTheEnvironment) {
  ::setenv("HOME", "/ada", 1);
  ::setenv("XDG_CACHE_HOME", "", 1);
  ::unsetenv("QLORA_CACHE_DIR");
  EXPECT_EQ(cache_directory(), "/ada/.cache/qlora");
  ::setenv("XDG_CACHE_HOME", "/caches", 1);
  EXPECT_EQ(cache_directory(), "/caches/qlora");
  ::setenv("QLORA_CACHE_DIR", "/own", 1);
  EXPECT_EQ(cache_directory(), "/own");
  for (const char* name : {"HOME", "XDG_CACHE_HOME", "QLORA_CACHE_DIR"}) ::unsetenv(name);
  EXPECT_EQ(cache_directory(), "");
}

}  // namespace
}  // namespace qlora
