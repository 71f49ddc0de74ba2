#pragma once
// Everything that one training run is told.

#include "qlora/data/data_config.h"
#include "qlora/models/model_settings.h"
#include "qlora/nn/lora_config.h"
#include "qlora/tensor/quantization_config.h"
#include "qlora/train/training_config.h"

namespace qlora::train {

struct RunConfig {
  models::ModelSettings model;
  tensor::QuantizationConfig quantization;
  nn::LoraConfig lora;
  data::DataConfig data;
  TrainingConfig training;

  template <class V>
  void visit(V&& v) {
    v.section("model", model, "the pretrained model");
    v.section("quantization", quantization, "how its weights are stored");
    v.section("lora", lora, "the adapter");
    v.section("data", data, "what is learned");
    v.section("training", training, "how it is learned");
  }
};

}  // namespace qlora::train
