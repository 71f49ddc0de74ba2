#!/usr/bin/env python3
"""Checks what clang-format cannot: lengths, leftovers and machine paths in the project's own text.

Usage: tools/dev/check_style.py [PROJECT_DIR]
Prints one line per problem and exits 1 if there is any.
"""

import ast
import re
import sys
from pathlib import Path

MAX_COLUMNS = 100
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_KERNEL_LINES = 120

CPP = {".h", ".cpp", ".cu", ".cuh"}
CODE = CPP | {".py", ".sh", ".cmake", ".yaml", ".yml"}
FOLDERS = ("include", "src", "tests", "tools", "cmake", "configs", ".ci")
FIXTURES = Path("tests/data")  # inputs of tests, which may hold anything

LEFTOVER = re.compile(r"\b(" + "|".join(("TO" "DO", "FIX" "ME", "XX" "X")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(" + "|".join(("home", "root", "work", "mnt")) + r")/")


def is_code(path):
    if path.suffix in CODE or path.name == "CMakeLists.txt":
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        return file.read(2) == b"#!"
# include/qlora/base/directory.h says why.
REFUSED = re.compile(r"\b(fs|filesystem)::(remove_all|(recursive_)?directory_iterator)\b")


def own_files(root):
    """The project's code, in order; data and generated files are left out."""
    files = [p for p in root.iterdir() if p.is_file()]
    for folder in FOLDERS:
        files += [p for p in (root / folder).rglob("*") if p.is_file()]
    own = [p.relative_to(root) for p in sorted(files) if is_code(p)]
    return [p for p in own if FIXTURES not in p.parents]


def check_lines(lines):
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS:
            yield number, f"{len(line)} columns, expected {MAX_COLUMNS} or fewer"
        if "\t" in line:
            yield number, "holds a tab"
        if line != line.rstrip():
            yield number, "ends in white space"
        if LEFTOVER.search(line):
            yield number, f"says {LEFTOVER.search(line).group()}: do it, or leave it out"
        if REFUSED.search(line):
            yield number, f"uses {REFUSED.search(line).group()}: see qlora/base/directory.h"
        if MACHINE_PATH.search(line):
            yield number, f"names a path of one machine: {MACHINE_PATH.search(line).group()}"
    if len(lines) > MAX_FILE_LINES:
        yield len(lines), f"{len(lines)} lines, expected {MAX_FILE_LINES} or fewer"


def check_cpp_functions(lines):
    """In formatted C++ a function, unlike a scope or a table, ends with a lone }."""
    for end, line in enumerate(lines):
        if line.strip() != "}":
            continue
        indent = line.index("}")
        start = end - 1
        while start > 0 and not (re.match(r" {0,%d}[^\s#]" % indent, lines[start])):
            start -= 1
        limit = MAX_KERNEL_LINES if "__global__" in lines[start] else MAX_FUNCTION_LINES
        if end - start + 1 > limit:
            yield start + 1, f"a function of {end - start + 1} lines, expected {limit}"


def check_python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield node.lineno, f"a function of {length} lines, expected {MAX_FUNCTION_LINES}"


def check_file(root, path):
    try:
        text = (root / path).read_text(encoding="utf-8")
        lines = text.splitlines()
        problems = list(check_lines(lines))
        if path.suffix in CPP:
            problems += check_cpp_functions(lines)
        if path.suffix == ".py":
            problems += check_python_functions(text)
    except (UnicodeDecodeError, SyntaxError) as error:
        problems = [(1, f"cannot be read: {error}")]
    return [f"{path}:{line}: {message}" for line, message in problems]


def check(root):
    """All problems of the project under `root`, one line each."""
    root = Path(root).resolve()
    return [problem for path in own_files(root) for problem in check_file(root, path)]


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
