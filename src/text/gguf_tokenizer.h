#pragma once
// The tokenizer inside a GGUF (keys tokenizer.ggml.*), opened and written out as files.

#include "qlora/io/gguf.h"
#include "qlora/text/tokenizer.h"

#include <filesystem>
#include <memory>

namespace qlora::text {

// Models `gpt2` (byte-level BPE) and `llama` (sentencepiece with scores). Throws Error naming any
// other, and a pre-tokenizer that is not in the table.
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const io::GgufFile& gguf);

// tokenizer.json or tokenizer.model, and tokenizer_config.json with the chat template.
void write_gguf_tokenizer(const io::GgufFile& gguf, const std::filesystem::path& target);

}  // namespace qlora::text
