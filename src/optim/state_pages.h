#pragma once
// Moments in pinned host memory that stream through three windows on the GPU: while one page is
// updated, the next one arrives and the previous one leaves, on two streams of their own.

#include "moments.h"

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <functional>

namespace qlora::optim {

class StatePages {
 public:
  // `host`: all moments, in pinned memory. `device`: the GPU that updates them.
  StatePages(Moments host, c10::Device device);

  std::int64_t count() const;
  std::int64_t page_of(std::int64_t element) const { return element / elements_; }
  // The elements of `host` that a page has.
  std::int64_t begin(std::int64_t page) const { return page * elements_; }
  std::int64_t end(std::int64_t page) const;
  // Where a page's moments are while it is updated; always the same window for the same page.
  const Moments& window(std::int64_t page) const { return at(page).moments; }

  // Brings a page in, lets `update` queue its work on the current stream and takes the page back.
  // Everything is only queued: the host may read the moments after synchronize(). Pages are
  // updated in ascending order.
  void update(std::int64_t page, const std::function<void()>& update);

  // Waits until every page is back in host memory.
  void synchronize() const { out_.synchronize(); }

 private:
  struct Window {
    Moments moments;
    at::cuda::CUDAEvent arrived, updated, left;
  };
  const Window& at(std::int64_t page) const { return windows_[page % windows_.size()]; }

  Moments host_;
  std::int64_t elements_;  // of a page
  c10::cuda::CUDAStream in_, out_;
  std::array<Window, 3> windows_;
};

}  // namespace qlora::optim
