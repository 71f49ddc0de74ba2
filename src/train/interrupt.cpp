#include "qlora/train/interrupt.h"

#include <csignal>

namespace qlora::train {
namespace {

volatile std::sig_atomic_t requested = 0;

extern "C" void remember(int signal) {
  requested = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void watch_interrupts() {
  std::signal(SIGINT, remember);
  std::signal(SIGTERM, remember);
}

bool interrupted() { return requested != 0; }

}  // namespace qlora::train
