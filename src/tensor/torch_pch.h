#pragma once
// The precompiled header of every module that uses LibTorch: ATen is most of their compile time.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
