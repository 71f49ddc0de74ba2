#pragma once

#include <filesystem>

namespace qlora {

// Where programs keep what they can make again: $QLORA_CACHE_DIR, else $XDG_CACHE_HOME/qlora, else
// ~/.cache/qlora; empty where the environment names none of them. Not made here.
std::filesystem::path cache_directory();

}  // namespace qlora
