// Attention by cuDNN against loops in double.

#include "kernels/attention_batch.h"

namespace qlora::kernels {
namespace {

// Skips where cuDNN has no ragged backward, which it has on Hopper and the large Blackwells.
class GpuCudnnAttention : public test::GpuTest {
 protected:
  void SetUp() override {
    test::GpuTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    int major = 0;
    QLORA_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    const auto problem = cuda::cudnn_attention_problem(test::shape_of({}));
    if (major == 9 || major == 10) {
      ASSERT_EQ(problem, std::nullopt);
    } else if (problem) {
      GTEST_SKIP() << *problem;
    }
  }
};

TEST_F(GpuCudnnAttention, EqualsTheReference) {
  test::expect_all_cases(cuda::make_cudnn_attention);
}

TEST_F(GpuCudnnAttention, ServesAnyPacking) {
  test::expect_any_packing(cuda::make_cudnn_attention);
}

TEST_F(GpuCudnnAttention, ForwardRepeatsItsBits) {
  const test::AttentionCase c{.query_heads = 8, .key_heads = 2, .head_dim = 80};
  const AttentionShape shape = test::shape_of(c);
  const auto attention = cuda::make_cudnn_attention(shape);
  test::AttentionBatch batch(shape, c.lengths);
  batch.run(*attention, nullptr);
  const auto first = batch.outputs();
  batch.run(*attention, nullptr);
  EXPECT_EQ(batch.outputs()[0], first[0]);
}

// A capture fails at any allocation and any wait, so this shows that calls do neither.
TEST_F(GpuCudnnAttention, RunsInsideACudaGraph) {
  const test::AttentionCase c{.query_heads = 4, .key_heads = 2, .head_dim = 80};
  const AttentionShape shape = test::shape_of(c);
  const auto attention = cuda::make_cudnn_attention(shape);
  test::AttentionBatch batch(shape, c.lengths);
  batch.run(*attention, nullptr);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  QLORA_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  QLORA_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  batch.run(*attention, stream);
  QLORA_CUDA(cudaStreamEndCapture(stream, &graph));
  QLORA_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  const std::vector<std::int32_t> longer = {130, 0, 60, 41, 1, 1, 0};
  ASSERT_EQ(test::starts_of(longer).back(), test::starts_of(c.lengths).back());
  batch.set_lengths(longer);
  QLORA_CUDA(cudaGraphLaunch(executable, stream));
  QLORA_CUDA(cudaStreamSynchronize(stream));
  batch.expect_reference("replayed with other documents");
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

class GpuDocuments : public test::GpuTest {};

TEST_F(GpuDocuments, AreIndexedAsOnTheCpu) {
  for (const std::int64_t slots : {1, 7, 128, 300}) {
    AttentionShape shape = test::shape_of({.query_heads = 8, .key_heads = 2, .padding = 8});
    shape.slots = slots;
    std::vector<std::int32_t> each(static_cast<std::size_t>(slots));
    for (std::int64_t i = 0; i < slots; ++i) each[i] = static_cast<std::int32_t>(i * 7 % 5 * 400);
    const auto starts = test::starts_of(each);
    std::vector<std::int32_t> lengths(each.size());
    std::vector<std::int64_t> offsets(kDocumentOffsets * (each.size() + 1));
    test::OnDevice d_starts(starts), d_lengths(lengths), d_offsets(offsets);
    cpu::index_documents(shape, {starts.data(), lengths.data(), offsets.data()}, nullptr);
    cuda::index_documents(shape,
                          {d_starts.data<std::int32_t>(), d_lengths.data<std::int32_t>(),
                           d_offsets.data<std::int64_t>()},
                          nullptr);
    test::expect_same(d_lengths, lengths, fmt::format("{} slots", slots));
    test::expect_same(d_offsets, offsets, fmt::format("{} slots", slots));
  }
}

}  // namespace
}  // namespace qlora::kernels
