#pragma once
// Ctrl-C as a request: the run finishes its step, saves and leaves. A second one ends at once.

namespace qlora::train {

// Installs the handler for SIGINT and SIGTERM.
void watch_interrupts();
bool interrupted();

}  // namespace qlora::train
