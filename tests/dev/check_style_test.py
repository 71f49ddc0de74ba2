"""check_style.py must pass tidy files and name each breach."""

import unittest

import support  # first: finds the checks
import check_style


def function(lines, first="int f() {"):
    return "\n".join([first, *["  g();"] * (lines - 2), "}", ""])


class CheckStyle(support.TreeTest):
    def assert_breach(self, name, text, *parts):
        self.assert_one(check_style.check, {name: text}, name, *parts)

    def assert_fine(self, name, text):
        self.assertEqual(self.problems(check_style.check, {name: text}), [])

    def test_line_length(self):
        self.assert_fine("src/a.cpp", "x" * 100 + "\n")
        self.assert_breach("src/a.cpp", "\n" + "x" * 101 + "\n", ":2: 101 columns")
        self.assert_breach("CMakeLists.txt", "x" * 101, "101 columns")

    def test_file_length(self):
        self.assert_fine("tools/a.py", "\n" * 400)
        self.assert_breach("tools/a.py", "\n" * 401, "401 lines")

    def test_tabs_and_trailing_space(self):
        self.assert_breach("src/a.h", "a\tb\n", "tab")
        self.assert_breach("src/a.h", "a \n", "white space")

    def test_leftovers(self):
        for word in ("TO" "DO", "FIX" "ME", "XX" "X"):
            self.assert_breach("configs/a.yaml", f"# {word}: later\n", word)

    def test_machine_paths(self):
        for folder in ("home", "root"):
            self.assert_breach("tools/run", f"#!/bin/sh\ncd /{folder}/me\n", ":2:", "one machine")

    def test_directory_iterators(self):
        self.assert_breach("src/a.cpp", "fs::" "remove_all(path);\n", "qlora/base/directory.h")
        self.assert_breach("src/a.cpp", "f(fs::" "directory_iterator(path));\n", "directory.h")

    def test_function_length(self):
        self.assert_fine("src/a.cpp", function(60))
        self.assert_breach("src/a.cpp", function(61), ":1: a function of 61 lines")
        wrapped = function(61, "int f(int a,\n      int b) {")
        self.assert_breach("src/a.cpp", wrapped, ":1: a function of 62 lines")
        method = "class A {\n" + "".join("  " + line + "\n" for line in function(61).splitlines())
        self.assert_breach("include/qlora/a.h", method + "};\n", ":2: a function of 61 lines")

    def test_kernel_may_be_longer(self):
        self.assert_fine("src/a.cu", function(120, "__global__ void f() {"))
        self.assert_breach("src/a.cu", function(121, "__global__ void f() {"), "121 lines")

    def test_scopes_and_tables_may_be_long(self):
        many = "".join(function(30) + "\n" for _ in range(3))
        self.assert_fine("src/a.cpp", "namespace a {\n" + many + "}  // namespace a\n")
        self.assert_fine("src/a.cpp", "const int table[] = {\n" + "    1,\n" * 80 + "};\n")

    def test_python_function_length(self):
        self.assert_breach("tools/a.py", "def f():\n" + "    g()\n" * 60, "a function of 61 lines")

    def test_broken_python(self):
        self.assert_breach("tools/a.py", "def f(:\n", "cannot be read")

    def test_data_is_left_alone(self):
        self.assert_fine("tests/data/a.py", "x" * 200)
        self.assert_fine("build/a.cpp", "x" * 200)


if __name__ == "__main__":
    unittest.main()
