#pragma once
// The weights of a model on disk, whatever the container: addressed by the names of the HF
// checkpoint, read tensor by tensor or a few rows at a time, so that a loader never holds more than
// the piece it works on.

#include "qlora/base/dtype.h"
#include "qlora/io/bnb.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::io {

struct WeightInfo {
  std::vector<std::int64_t> shape;  // HF order: a linear is [out, in]
  DType dtype = DType::Float32;  // the type that a read without loss has; float32 for GGUF blocks
  std::string stored_as;         // "float32", "Q4_1", "nf4" ...
  std::int64_t stored_bytes = 0;
  std::filesystem::path file;
};

// Rows of a tensor's first dimension; end = -1: to the last.
struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = -1;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Every weight by its HF name, in a stable order; the side tensors of 4-bit weights are not
  // listed.
  virtual std::vector<std::string> names() const = 0;
  virtual bool has(std::string_view name) const = 0;
  // Throws Error naming the file and the nearest name where absent. For a 4-bit weight: the shape
  // and dtype of the weight before it was quantized.
  virtual const WeightInfo& info(std::string_view name) const = 0;

  // Writes rows [begin, end) to `destination`, contiguous, converted to `out` (float32, bfloat16,
  // float16 by round-to-nearest, or the tensor's own dtype as stored). Uses parallel_for; gives the
  // file's pages back afterwards. Safe to call from several threads. Throws Error for an absent
  // name, rows out of range, a packed 4-bit weight, a conversion from integers.
  virtual void read(std::string_view name, DType out, void* destination,
                    RowRange rows = {}) const = 0;

  // The stored parts of a weight that bitsandbytes quantized to 4 bits; empty for any other. The
  // views live as long as this object.
  virtual std::optional<Bnb4bitTensor> prequantized(std::string_view name) const = 0;
  // Tells the system that the mapped pages of a weight are not needed again (read() does it itself;
  // for callers of prequantized()).
  virtual void release(std::string_view name) const = 0;
};

// Throws Error unless info(name).shape is `expected`: name, file, expected, found.
void expect_shape(const WeightSource& source, std::string_view name,
                  const std::vector<std::int64_t>& expected);

// An HF directory (model.safetensors, or model.safetensors.index.json and its shards) or a GGUF
// file. Throws Error where files are missing, truncated or malformed.
std::unique_ptr<WeightSource> open_weights(const std::filesystem::path& path);

}  // namespace qlora::io
