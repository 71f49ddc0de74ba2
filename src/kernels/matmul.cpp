#include "qlora/kernels/matmul.h"

#include "matmul_choices.h"
#include "qlora/base/error.h"
#include "qlora/kernels/cuda_check.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>
#include <vector>

namespace qlora::kernels::cuda {
namespace {

// More candidates than cuBLASLt usually has for a shape.
constexpr int kCandidates = 32;
// Candidates that a first quick run leaves, and how often each of those is timed.
constexpr std::size_t kFinalists = 4;
constexpr int kRounds = 8;

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    fail("{} failed: {}", call, cublasLtGetStatusString(status));
  }
}
#define QLORA_CUBLAS(call) check(call, #call)

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::Float32: return CUDA_R_32F;
    case DType::Float16: return CUDA_R_16F;
    case DType::BFloat16: return CUDA_R_16BF;
    default: fail("matmul: unsupported element type {}", name_of(dtype));
  }
}

// The largest power of two, at most 256, that divides the address.
std::uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  return address == 0 ? 256u : std::min(256u, 1u << std::min(8, std::countr_zero(address)));
}

template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Destroyer {
  using pointer = Handle;
  void operator()(Handle handle) const { kDestroy(handle); }
};
using Description = std::unique_ptr<cublasLtMatmulDescOpaque_t,
                                    Destroyer<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t,
                               Destroyer<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                    Destroyer<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

// cuBLASLt counts in columns: a row-major [rows, cols] matrix is its [cols, rows].
Layout row_major(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  QLORA_CUBLAS(cublasLtMatrixLayoutCreate(&layout, data_type(dtype),
                                          static_cast<std::uint64_t>(cols),
                                          static_cast<std::uint64_t>(rows), stride));
  return Layout(layout);
}

Description describe(const MatmulShape& shape, bool bias) {
  cublasLtMatmulDesc_t description = nullptr;
  QLORA_CUBLAS(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Description result(description);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    QLORA_CUBLAS(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)));
  };
  // Dᵀ = op(B)ᵀ · op(A)ᵀ: the operands change places.
  set(CUBLASLT_MATMUL_DESC_TRANSA, shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(shape.in));
  }
  return result;
}

// A product whose algorithm is chosen.
struct Plan {
  Description description;
  Layout a, b, c, d;
  cublasLtMatmulAlgo_t algorithm{};
};

MatmulKey key_of(const MatmulShape& shape, const MatmulOperands& o) {
  const std::uint32_t alignment =
      std::min({alignment_of(o.a), alignment_of(o.b), alignment_of(o.c), alignment_of(o.d)});
  return {shape, o.c != nullptr, o.bias != nullptr, alignment};
}

Plan make_plan(const MatmulKey& key) {
  const MatmulShape& s = key.shape;
  Plan plan;
  plan.description = describe(s, key.bias);
  plan.a =
      s.transpose_a ? row_major(s.in, s.k, s.m, s.a_stride) : row_major(s.in, s.m, s.k, s.a_stride);
  plan.b =
      s.transpose_b ? row_major(s.in, s.n, s.k, s.b_stride) : row_major(s.in, s.k, s.n, s.b_stride);
  plan.c = row_major(s.out, s.m, s.n, key.adds ? s.c_stride : s.d_stride);
  plan.d = row_major(s.out, s.m, s.n, s.d_stride);
  return plan;
}

std::vector<cublasLtMatmulAlgo_t> candidates(cublasLtHandle_t handle, const Plan& plan,
                                             const MatmulKey& key) {
  cublasLtMatmulPreference_t raw = nullptr;
  QLORA_CUBLAS(cublasLtMatmulPreferenceCreate(&raw));
  const Preference preference(raw);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    QLORA_CUBLAS(cublasLtMatmulPreferenceSetAttribute(raw, attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{Matmul::kWorkspaceBytes});
  // Partial sums stay float32 and are added in a fixed order.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set(attribute, key.alignment);
  }
  cublasLtMatmulHeuristicResult_t found[kCandidates];
  int count = 0;
  cublasLtMatmulAlgoGetHeuristic(handle, plan.description.get(), plan.b.get(), plan.a.get(),
                                 plan.c.get(), plan.d.get(), raw, kCandidates, found, &count);
  std::vector<cublasLtMatmulAlgo_t> result;
  for (int i = 0; i < count; ++i) {
    if (found[i].state == CUBLAS_STATUS_SUCCESS) result.push_back(found[i].algo);
  }
  const MatmulShape& s = key.shape;
  if (result.empty()) {
    fail("matmul: cuBLASLt has no algorithm for [{}, {}] x [{}, {}] with rows of {}, {} and {}",
         s.m, s.k, s.k, s.n, s.a_stride, s.b_stride, s.d_stride);
  }
  return result;
}

// Events around work on a stream.
class Stopwatch {
 public:
  Stopwatch() {
    QLORA_CUDA(cudaEventCreate(&start_));
    QLORA_CUDA(cudaEventCreate(&stop_));
  }
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  template <class Work>
  float milliseconds(cudaStream_t stream, const Work& work) {
    QLORA_CUDA(cudaEventRecord(start_, stream));
    work();
    QLORA_CUDA(cudaEventRecord(stop_, stream));
    QLORA_CUDA(cudaEventSynchronize(stop_));
    float elapsed = 0;
    QLORA_CUDA(cudaEventElapsedTime(&elapsed, start_, stop_));
    return elapsed;
  }

 private:
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

}  // namespace

struct Matmul::State {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  MatmulChoice choice{};
  std::map<MatmulKey, Plan> plans;
  MatmulChoices known;  // of earlier runs and of this one

  ~State() {
    plans.clear();
    cublasLtDestroy(handle);
  }

  cublasStatus_t queue(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                       const MatmulOperands& o, cudaStream_t stream) const {
    if (o.bias != nullptr) {
      cublasLtMatmulDescSetAttribute(plan.description.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                     &o.bias, sizeof(o.bias));
    }
    const float beta = o.c != nullptr ? 1.0f : 0.0f;
    const void* c = o.c != nullptr ? o.c : o.d;
    return cublasLtMatmul(handle, plan.description.get(), &o.alpha, o.b, plan.b.get(), o.a,
                          plan.a.get(), &beta, c, plan.c.get(), o.d, plan.d.get(), &algorithm,
                          workspace, kWorkspaceBytes, stream);
  }

  // Whether a choice of an earlier run still computes the product.
  bool serves(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm) const {
    cublasLtMatmulHeuristicResult_t result{};
    return cublasLtMatmulAlgoCheck(handle, plan.description.get(), plan.b.get(), plan.a.get(),
                                   plan.c.get(), plan.d.get(), &algorithm,
                                   &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= static_cast<std::size_t>(kWorkspaceBytes);
  }

  void choose(const MatmulKey& key, Plan& plan, const MatmulOperands& operands,
              cudaStream_t stream);
  cublasLtMatmulAlgo_t fastest(const Plan& plan, const std::vector<cublasLtMatmulAlgo_t>& all,
                               const MatmulOperands& operands, cudaStream_t stream) const;
};

void Matmul::State::choose(const MatmulKey& key, Plan& plan, const MatmulOperands& operands,
                           cudaStream_t stream) {
  if (choice == MatmulChoice::Heuristic) {
    plan.algorithm = candidates(handle, plan, key).front();
    return;
  }
  const auto found = known.find(key);
  if (found != known.end() && serves(plan, found->second)) {
    plan.algorithm = found->second;
    return;
  }
  plan.algorithm = fastest(plan, candidates(handle, plan, key), operands, stream);
  known[key] = plan.algorithm;
}

cublasLtMatmulAlgo_t Matmul::State::fastest(const Plan& plan,
                                            const std::vector<cublasLtMatmulAlgo_t>& all,
                                            const MatmulOperands& operands,
                                            cudaStream_t stream) const {
  Stopwatch watch;
  std::vector<std::pair<float, std::size_t>> times;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (queue(plan, all[i], operands, stream) != CUBLAS_STATUS_SUCCESS) continue;
    times.emplace_back(watch.milliseconds(stream, [&] { queue(plan, all[i], operands, stream); }),
                       i);
  }
  if (times.empty()) return all.front();
  std::sort(times.begin(), times.end());
  times.resize(std::min(times.size(), kFinalists));
  for (auto& [time, i] : times) {
    time = watch.milliseconds(stream, [&] {
      for (int round = 0; round < kRounds; ++round) queue(plan, all[i], operands, stream);
    });
  }
  return all[std::min_element(times.begin(), times.end())->second];
}

Matmul::Matmul(void* workspace, MatmulChoice choice) : state_(std::make_unique<State>()) {
  QLORA_CUBLAS(cublasLtCreate(&state_->handle));
  state_->workspace = workspace;
  state_->choice = choice;
}

Matmul::~Matmul() = default;

void Matmul::run(const MatmulShape& shape, const MatmulOperands& operands, Stream stream) {
  if (shape.m == 0 || shape.n == 0) return;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const MatmulKey key = key_of(shape, operands);
  auto found = state_->plans.find(key);
  if (found == state_->plans.end()) {
    Plan plan = make_plan(key);
    state_->choose(key, plan, operands, cuda_stream);
    found = state_->plans.emplace(key, std::move(plan)).first;
  }
  QLORA_CUBLAS(state_->queue(found->second, found->second.algorithm, operands, cuda_stream));
}

std::string Matmul::choices() const { return write_choices(state_->known); }

void Matmul::adopt(std::string_view choices) { state_->known.merge(read_choices(choices)); }

}  // namespace qlora::kernels::cuda
