#include "step_inputs.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/cross_entropy.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <bit>

namespace qlora::models {
namespace {

// Lists start on 16 bytes.
constexpr std::int64_t kListUnit = 4;

}  // namespace

StepInputs::Layout StepInputs::make_layout() const {
  std::int64_t used = 0;
  const auto list = [&](std::int64_t count) {
    const std::int64_t start = used;
    used += round_up(count, kListUnit);
    return start;
  };
  const std::int64_t labels = round_up(attention_.tokens, loss_rows_);
  Layout layout{};
  layout.ids = list(attention_.tokens);
  layout.positions = list(attention_.tokens);
  layout.samples = list(dropout_ ? 2 * attention_.tokens : 0);
  layout.starts = list(attention_.slots + 1);
  layout.labelled = list(labels);
  layout.labels = list(labels);
  layout.scale = list(1);
  layout.total = used;
  return layout;
}

StepInputs::StepInputs(const kernels::AttentionShape& attention, std::int64_t loss_rows,
                       bool dropout, c10::Device device)
    : attention_(attention), loss_rows_(loss_rows), dropout_(dropout), layout_(make_layout()) {
  const auto on = at::TensorOptions(device);
  for (Staging& staging : staging_) {
    staging.pinned = at::zeros({layout_.total}, at::TensorOptions(at::kInt).pinned_memory(true));
  }
  device_ = at::zeros({layout_.total}, on.dtype(at::kInt));
  lengths_ = at::zeros({attention.slots}, on.dtype(at::kInt));
  offsets_ = at::zeros({kernels::kDocumentOffsets, attention.slots + 1}, on.dtype(at::kLong));
  loss_ = at::zeros({1}, on.dtype(at::kDouble));
  auto* lists = device_.mutable_data_ptr<std::int32_t>();
  const auto* samples = reinterpret_cast<const std::int64_t*>(lists + layout_.samples);
  view_ = {.ids = lists + layout_.ids,
           .positions = lists + layout_.positions,
           .documents = {.starts = lists + layout_.starts,
                         .lengths = lengths_.mutable_data_ptr<std::int32_t>(),
                         .offsets = offsets_.mutable_data_ptr<std::int64_t>()},
           .samples = dropout ? samples : nullptr,
           .labelled = lists + layout_.labelled,
           .labels = lists + layout_.labels,
           .loss_scale = reinterpret_cast<const float*>(lists + layout_.scale),
           .loss = loss_.mutable_data_ptr<double>()};
}

std::int64_t StepInputs::load(const TokenRows& batch, std::int64_t rows, std::int64_t length,
                              double scale) {
  QLORA_ASSERT(batch.rows <= rows && batch.length <= length && rows * length <= attention_.tokens);
  Staging& staging = staging_[next_++ % staging_.size()];
  staging.copied.synchronize();
  auto* out = staging.pinned.mutable_data_ptr<std::int32_t>();
  write_documents(batch, rows, length, out);
  const std::int64_t labelled = write_labels(batch, length, out);
  out[layout_.scale] = std::bit_cast<std::int32_t>(static_cast<float>(scale));
  device_.copy_(staging.pinned, /*non_blocking=*/true);
  staging.copied.record(c10::cuda::getCurrentCUDAStream());
  kernels::cuda::index_documents(attention_, view_.documents, tensor::current_stream(device_));
  return labelled;
}

// A row's last document takes the row's padding along; a missing row is a document of its own.
void StepInputs::write_documents(const TokenRows& batch, std::int64_t rows, std::int64_t length,
                                 std::int32_t* out) const {
  auto* const samples = reinterpret_cast<std::int64_t*>(out + layout_.samples);
  std::int64_t slot = 0;
  const auto add = [&](std::int64_t first, std::int64_t tokens, std::int64_t pads,
                       std::int64_t name) {
    QLORA_ASSERT(slot < attention_.slots);
    out[layout_.starts + slot++] = narrow<std::int32_t>(first);
    for (std::int64_t t = 0; t < tokens + pads; ++t) {
      // Padding may reach beyond the positions that there are angles for.
      out[layout_.positions + first + t] = static_cast<std::int32_t>(t < tokens ? t : 0);
    }
    if (dropout_) std::fill_n(samples + first, tokens + pads, name);
  };
  std::size_t document = 0;
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    for (std::int64_t t = 0; t < batch.length; ++document) {
      const std::int64_t tokens = batch.documents[document];
      const bool last = t + tokens == batch.length;
      add(row * length + t, tokens, last ? length - batch.length : 0,
          dropout_ ? batch.names[document] : 0);
      t += tokens;
    }
  }
  for (std::int64_t row = batch.rows; row < rows; ++row) add(row * length, 0, length, 0);
  std::fill(out + layout_.starts + slot, out + layout_.starts + attention_.slots + 1,
            narrow<std::int32_t>(rows * length));
}

// Also the ids. Returns the count of labels.
std::int64_t StepInputs::write_labels(const TokenRows& batch, std::int64_t length,
                                      std::int32_t* out) const {
  std::fill_n(out + layout_.ids, attention_.tokens, 0);
  std::int64_t labelled = 0;
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    for (std::int64_t t = 0; t < batch.length; ++t) {
      const auto from = static_cast<std::size_t>(row * batch.length + t);
      const auto at = static_cast<std::int32_t>(row * length + t);
      out[layout_.ids + at] = narrow<std::int32_t>(batch.ids[from]);
      // A token predicts the one behind it.
      if (t + 1 == batch.length || batch.labels[from + 1] == kernels::kIgnoredLabel) continue;
      out[layout_.labelled + labelled] = at;
      out[layout_.labels + labelled++] = narrow<std::int32_t>(batch.labels[from + 1]);
    }
  }
  const std::int64_t end = round_up(labelled, loss_rows_);
  std::fill(out + layout_.labelled + labelled, out + layout_.labelled + end, -1);
  std::fill(out + layout_.labels + labelled, out + layout_.labels + end, kernels::kIgnoredLabel);
  return labelled;
}

}  // namespace qlora::models
