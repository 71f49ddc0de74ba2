#pragma once
// The one line that a call fails with.

#include "qlora/base/error.h"

#include <string>

namespace qlora::test {

// Empty where the call succeeds.
template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace qlora::test
