#pragma once
// Row-major matrix products through cuBLASLt, each shape with an algorithm chosen once. There is no
// CPU twin: on the CPU the plain path multiplies through ATen.

#include "qlora/kernels/types.h"

#include <compare>
#include <memory>
#include <string>
#include <string_view>

namespace qlora::kernels::cuda {

// D = alpha · op(A) · op(B) [+ C] [+ bias on every row], summed in float32 and rounded once.
// D, C: [m, n]; op(A): [m, k]; op(B): [k, n]. A stride is the distance of stored rows in elements.
struct MatmulShape {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false;  // A is stored as [k, m]
  bool transpose_b = false;  // B is stored as [n, k]
  std::int64_t a_stride = 0, b_stride = 0, c_stride = 0, d_stride = 0;
  DType in = DType::BFloat16;   // of A, B and bias
  DType out = DType::BFloat16;  // of C and D

  auto operator<=>(const MatmulShape&) const = default;
};

struct MatmulOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  const void* c = nullptr;     // added; may be d
  const void* bias = nullptr;  // [n]
  float alpha = 1;
};

// How an algorithm is chosen for a shape that comes for the first time.
enum class MatmulChoice {
  Heuristic,  // cuBLASLt's first: the same on every run with one library and GPU
  Measured,   // the fastest of its candidates, timed on the operands given (D is overwritten),
              // unless adopt() knows what an earlier run chose
};

class Matmul {
 public:
  // Bytes of device memory that every product may use meanwhile; products on one stream share it.
  static constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;

  // workspace: kWorkspaceBytes of device memory, 256-byte aligned, outliving this object.
  explicit Matmul(void* workspace, MatmulChoice choice);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // Queues the product on `stream`. The first call of a shape chooses its algorithm, which may not
  // happen while the stream is being captured. Throws Error where cuBLASLt has none.
  void run(const MatmulShape& shape, const MatmulOperands& operands, Stream stream);

  // What was chosen so far or adopted, as text for adopt() in another run.
  std::string choices() const;
  // Takes over what another object chose. Choices of another GPU or cuBLASLt, and damaged ones, are
  // passed over.
  void adopt(std::string_view choices);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qlora::kernels::cuda
