#pragma once
// A tiny model of two layers as a GGUF file: hidden 32, 2 heads and 1 kv head of 16, vocabulary 8.

#include "io/file_builders.h"

#include <string>
#include <vector>

namespace qlora::io::test {

inline GgufBuilder gguf_keys(const std::string& architecture) {
  GgufBuilder builder;
  builder.string("general.architecture", architecture);
  const auto key = [&](const char* name) { return architecture + "." + name; };
  builder.u32(key("embedding_length"), 32).u32(key("feed_forward_length"), 64);
  builder.u32(key("block_count"), 2).u32(key("attention.head_count"), 2);
  builder.u32(key("attention.head_count_kv"), 1).u32(key("context_length"), 256);
  builder.f32(key("attention.layer_norm_rms_epsilon"), 1e-5F);
  builder.f32(key("rope.freq_base"), 500000.0F).u32(key("rope.dimension_count"), 16);
  builder.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
  return builder;
}

// float32 0, 1, 2, ... of a tensor with these dimensions (fastest first).
inline GgufBuilder& add_counting(GgufBuilder& builder, const std::string& name,
                                 const std::vector<std::uint64_t>& dimensions) {
  std::uint64_t count = 1;
  for (const auto dimension : dimensions) count *= dimension;
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return builder.tensor(name, dimensions, 0, raw_list(values));
}

inline GgufBuilder gguf_model(const std::string& architecture) {
  GgufBuilder builder = gguf_keys(architecture);
  add_counting(builder, "token_embd.weight", {32, 8});
  add_counting(builder, "output_norm.weight", {32});
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    add_counting(builder, layer + "attn_norm.weight", {32});
    add_counting(builder, layer + "ffn_norm.weight", {32});
    add_counting(builder, layer + "attn_q.weight", {32, 32});
    add_counting(builder, layer + "attn_k.weight", {32, 16});
    add_counting(builder, layer + "attn_v.weight", {32, 16});
    add_counting(builder, layer + "attn_output.weight", {32, 32});
    add_counting(builder, layer + "ffn_gate.weight", {32, 64});
    add_counting(builder, layer + "ffn_up.weight", {32, 64});
    add_counting(builder, layer + "ffn_down.weight", {64, 32});
  }
  return builder;
}

}  // namespace qlora::io::test
