// Constructs of Jinja against Jinja2 itself: tests/data/jinja.

#include "qlora/base/file.h"
#include "qlora/text/chat_template.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

TEST(JinjaGolden, RendersAsJinja2DoesOrRefuses) {
  const Json golden = read_json(test::golden_path("jinja/jinja.json"));
  RenderOptions options;
  options.tools = golden.at("tools");
  for (const Json& expected : golden.at("cases")) {
    const auto source = expected.at("source").get<std::string>();
    const auto render = [&] {
      return ChatTemplate::parse(source, "t").render(golden.at("messages"), options);
    };
    if (expected.at("text").is_null()) {
      EXPECT_THROW(render(), Error) << source;
      continue;
    }
    try {
      EXPECT_EQ(render(), expected.at("text").get<std::string>()) << source;
    } catch (const Error& error) {
      ADD_FAILURE() << source << ": " << error.what();
    }
  }
}

// What the interpreter lacks it says, and renders nothing else in its place.
TEST(JinjaGolden, RefusesWhatItDoesNotKnow) {
  const Json golden = read_json(test::golden_path("jinja/jinja.json"));
  for (const Json& source : golden.at("refused")) {
    EXPECT_THROW(
        ChatTemplate::parse(source.get<std::string>(), "t").render(golden.at("messages"), {}),
        Error)
        << source;
  }
}

}  // namespace
}  // namespace qlora::text
