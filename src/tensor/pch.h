#pragma once
// What every module with LibTorch has precompiled besides base/pch.h: most of their compile time.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
