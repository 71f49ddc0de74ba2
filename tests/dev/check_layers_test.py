"""check_layers.py must pass a lawful tree and name each breach of the layer table."""

import unittest

import support  # first: finds the checks
import check_layers

LAWFUL = {
    "include/qlora/base/error.h": "#include <fmt/format.h>\n#include <string>\n",
    "include/qlora/kernels/nf4.h": '#include "qlora/base/error.h"\n',
    "include/qlora/tensor/quantized.h": '#include <ATen/core/Tensor.h>\n',
    "src/kernels/nf4.cu": '#include "kernels/codes.h"\n#include <cuda_fp16.h>\n'
                          '#include <cub/block/block_reduce.cuh>\n',
    "src/kernels/codes.h": "#include <array>\n#include <sys/mman.h>\n",
    "src/tensor/quantized.cpp": '#include "qlora/tensor/quantized.h"\n'
                                '#include "qlora/kernels/nf4.h"\n',
    "src/tensor/CMakeLists.txt": "qlora_torch_module(tensor SOURCES a.cpp PUBLIC qlora_kernels)\n",
    "tests/kernels/nf4_test.cpp": '#include "kernels/codes.h"\n#include <gtest/gtest.h>\n'
                                  '#include "support/test_data.h"\n',
    "tests/support/test_data.h": "#include <gtest/gtest.h>\n",
    "tools/train.cpp": '#include "qlora/tensor/quantized.h"\n',
}


class CheckLayers(support.TreeTest):
    def assert_breach(self, file, text, *parts):
        tree = dict(LAWFUL)
        tree[file] = tree.get(file, "") + text
        self.assert_one(check_layers.check, tree, file, *parts)

    def test_lawful_tree_has_no_problem(self):
        self.assertEqual(self.problems(check_layers.check, LAWFUL), [])

    def test_upwards(self):
        self.assert_breach("src/kernels/up.cpp", '#include "qlora/tensor/quantized.h"\n',
                           ":1: includes", "kernels may include only base kernels")

    def test_sideways(self):
        self.assert_breach("src/io/gguf.cpp", '#include "qlora/kernels/nf4.h"\n', "io may include")

    def test_public_header_of_another_module_in_a_test_above(self):
        self.assert_breach("tests/kernels/b_test.cpp", '#include "qlora/tensor/quantized.h"\n',
                           "kernels may include only")

    def test_private_header_of_another_module(self):
        self.assert_breach("src/tensor/quantized.cpp", '#include "kernels/codes.h"\n',
                           ":3:", "private header of kernels")
        self.assert_breach("src/tensor/a.cpp", '#include "../kernels/codes.h"\n',
                           "private header of kernels")
        self.assert_breach("tests/tensor/a_test.cpp", '#include "kernels/codes.h"\n',
                           "private header of kernels")
        self.assert_breach("tools/merge.cpp", '#include "kernels/codes.h"\n',
                           "private header of kernels")

    def test_header_of_the_tests(self):
        self.assert_breach("src/base/a.cpp", '#include "support/test_data.h"\n', "of the tests")

    def test_torch_below_its_layer(self):
        for header in ("torch/torch.h", "ATen/ATen.h", "c10/core/Device.h"):
            self.assert_breach("src/kernels/a.cpp", f"#include <{header}>\n", header)

    def test_torch_in_cuda_source(self):
        self.assert_breach("src/tensor/a.cu", "#include <ATen/ATen.h>\n", "free of LibTorch")
        self.assert_breach("src/tensor/a.cuh", "#include <c10/cuda/CUDAStream.h>\n",
                           "free of LibTorch")

    def test_third_party_library_outside_its_module(self):
        for header, owner in (("yaml-cpp/yaml.h", "config"), ("CLI/CLI.hpp", "config"),
                              ("nlohmann/json.hpp", "base"), ("fmt/core.h", "base"),
                              ("pcre2.h", "text"), ("utf8proc.h", "text"),
                              ("sentencepiece_processor.h", "text"), ("arrow/api.h", "data"),
                              ("torch/csrc/distributed/c10d/TCPStore.hpp", "dist"),
                              ("cudnn_frontend.h", "kernels"), ("sqlite3.h", "serve")):
            self.assert_breach("src/train/a.cpp", f"#include <{header}>\n", "belongs to " + owner)
        self.assert_breach("src/run/a.cpp", "#include <cupti.h>\n", "belongs to train")

    def test_test_names_a_library_above_its_module(self):
        self.assert_breach("tests/kernels/a_test.cpp", "#include <ATen/ATen.h>\n", "belongs to")

    def test_googletest_outside_the_tests(self):
        self.assert_breach("src/base/a.cpp", "#include <gtest/gtest.h>\n", "the tests")

    def test_cuda_in_a_module_without_kernels(self):
        self.assert_breach("src/io/a.cpp", "#include <cuda_runtime.h>\n", "belongs to")

    def test_unknown_library(self):
        self.assert_breach("src/base/a.cpp", "#include <boost/any.hpp>\n", "does not know")

    def test_missing_file(self):
        self.assert_breach("src/base/a.cpp", '#include "qlora/base/gone.h"\n', "not a file")

    def test_unknown_module(self):
        self.assert_one(check_layers.check, {**LAWFUL, "src/extra/CMakeLists.txt": ""}, "src/extra")
        tree = {**LAWFUL, "include/qlora/extra/a.h": "",
                "tools/a.cpp": '#include "qlora/extra/a.h"\n'}
        self.assert_one(check_layers.check, tree, "layer table lacks")

    def test_cycle_inside_a_module(self):
        tree = {**LAWFUL, "src/base/a.h": '#include "base/b.h"\n',
                "src/base/b.h": '#include "a.h"\n'}
        self.assert_one(check_layers.check, tree, "src/base/a.h -> src/base/b.h -> src/base/a.h")

    def test_link_upwards(self):
        self.assert_breach("src/kernels/CMakeLists.txt", "qlora_module(kernels PUBLIC qlora_io)\n",
                           "may not link qlora_io")

    def test_table_goes_only_downwards(self):
        names = list(check_layers.MODULES)
        for index, (layer, below) in enumerate(check_layers.MODULES.values()):
            for name in below.split():
                self.assertIn(name, names[:index])
                self.assertLessEqual(check_layers.MODULES[name][0], layer)


if __name__ == "__main__":
    unittest.main()
