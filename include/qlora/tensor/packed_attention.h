#pragma once
// Attention over packed documents (kernels/attention.h): ATen's FlashAttention-2 as the second
// engine beside cuDNN, and the choice between the two.

#include "qlora/kernels/attention.h"

namespace qlora::tensor {

// Why ATen's FlashAttention-2 cannot compute this shape on the current device, or nothing.
std::optional<std::string> flash_attention_problem(const kernels::AttentionShape& shape);

// FlashAttention-2 with cumulative lengths. It takes its results and scratch memory from LibTorch's
// allocator (allocated_bytes) and copies the documents' rows to the caller's tensors; a CUDA graph
// must therefore record it through at::cuda::CUDAGraph, whose pool serves the allocator.
// deterministic: equal bits in every run, for which the backward takes more memory where slots
// times heads leave multiprocessors idle; otherwise d_q is added up by atomics, in no fixed order.
// Throws Error where there is a problem.
std::unique_ptr<kernels::PackedAttention> make_flash_attention(const kernels::AttentionShape& shape,
                                                               bool deterministic);

// Why make_packed_attention cannot serve this shape on the current device, or nothing.
std::optional<std::string> packed_attention_problem(const kernels::AttentionShape& shape,
                                                    bool deterministic);

// cuDNN where it can compute the shape, is the faster one and needs no more than a few times the
// memory of the tokens, unless the same bits are asked for; else FlashAttention-2. Throws Error
// where neither can.
std::unique_ptr<kernels::PackedAttention> make_packed_attention(
    const kernels::AttentionShape& shape, bool deterministic);

}  // namespace qlora::tensor
