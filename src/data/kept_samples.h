#pragma once
// Samples that outlive their run: a SampleStore's records with an index behind them.
//
// Native byte order; the offsets of the parts follow from the sizes in the last one:
//   records   as in sample_store.cpp
//   index     {i64 offset, i32 tokens, i32 0} for each sample
//   text      of the caller
//   trailer   {i64 bytes of the records, i64 samples, i64 bytes of the text,
//              u64 stable_hash of index and text, char[16] "qlora samples 1\n"}

#include "data/sample_file.h"
#include "qlora/data/sample_store.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace qlora::data {

struct KeptSamples {
  SampleStore samples;
  std::string text;
};

// Null where there is no such file, or one that is not whole.
std::optional<KeptSamples> open_kept_samples(const std::filesystem::path& path);

}  // namespace qlora::data
