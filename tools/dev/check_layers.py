#!/usr/bin/env python3
"""Holds every #include and every link line to the layer table of README.md.

Usage: tools/dev/check_layers.py [PROJECT_DIR]
Modules include only downwards and only each other's public headers, files never include each other
in a circle, LibTorch stays out of the lower layers and of CUDA sources, and each third-party
library is named in one module. Prints one line per problem and exits 1 if there is any.
"""

import re
import sys
from pathlib import Path

# Module -> (layer, modules it may include), lowest first.
MODULES = {
    "base": (0, ""),
    "config": (0, "base"),
    "kernels": (1, "base"),
    "io": (1, "base"),
    "text": (1, "base io"),
    "data": (1, "base text"),
    "tensor": (2, "base io kernels"),
    "fused": (2, "base kernels"),
    "dist": (2, "base"),
    "nn": (3, "base kernels tensor"),
    "optim": (3, "base kernels tensor dist"),
    "models": (4, "base io kernels fused tensor nn"),
    "run": (5, "base config kernels io text data tensor nn models"),
    "train": (6, "base config kernels io text data tensor dist nn optim models run"),
    "serve": (7, "base config"),
}
TORCH_LAYER = 2

# Angle-bracket includes, first match decides: (pattern, modules that may name it; None: all).
# A program or a test may name what its modules may, and GoogleTest.
LIBRARIES = [
    (r"torch/csrc/distributed/|nccl\.h", {"dist"}),
    (r"(torch|ATen|c10|caffe2)/", {m for m, (layer, _) in MODULES.items() if layer >= TORCH_LAYER}),
    (r"yaml-cpp/|CLI/", {"config"}),
    (r"nlohmann/|fmt/", {"base"}),
    (r"sentencepiece|pcre2|utf8proc", {"text"}),
    (r"arrow/|parquet/|zlib\.h|zstd\.h", {"data"}),
    (r"httplib\.h|sqlite3\.h", {"serve"}),
    (r"(cuda|cub|cooperative_groups|mma|math_constants|nvml)\w*(/[\w./]+)?(\.h|\.cuh)?$",
     {"kernels", "fused", "tensor", "nn", "optim", "models", "run", "train"}),
    (r"cudnn\w*\.h", {"kernels"}),
    (r"cupti\w*\.h", {"train"}),
    (r"gtest/|gmock/", set()),
    (r"[a-z_]+$", None),  # C++'s own
    (r"(sys|linux|net|netinet|arpa)/", None),
    (r"(dirent|dlfcn|fcntl|ftw|glob|immintrin|poll|pthread|sched|signal|spawn|termios|unistd)\.h",
     None),
]
TORCH_NAME = re.compile(r"(torch|ATen|c10|caffe2)/")
TEST_LIBRARY = re.compile(r"gtest/|gmock/")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SOURCES = {".h", ".cpp", ".cu", ".cuh"}
CUDA_SOURCES = {".cu", ".cuh"}


def module_of(path):
    """(kind, module) of a path inside the project: public, private, test, tool or other."""
    parts = path.parts
    if parts[:2] == ("include", "qlora") and len(parts) > 3:
        return "public", parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return "private", parts[1]
    if parts[0] == "tests" and len(parts) > 2:
        return "test", parts[1].removesuffix("_module")  # tests/data holds goldens
    return ("tool" if parts[0] == "tools" else "other"), ""


def may_include(kind, module):
    """The modules whose public headers a file may include; None for all."""
    if kind not in ("public", "private", "test") or module not in MODULES:
        return None
    layer, below = MODULES[module]
    if kind == "test":  # may build its inputs with anything that is not above
        return {name for name, (other, _) in MODULES.items() if other <= layer}
    return {module, *below.split()}


def resolve(root, file, name):
    """The project's file that a quoted include means, or None."""
    for folder in (file.parent, Path("include"), Path("src"), Path("tests")):
        path = (root / folder / name).resolve()
        if path.is_file() and path.is_relative_to(root):
            return path.relative_to(root)
    return None


def check_own(file, target):
    """A message where `file` may not include the project's file `target`, else None."""
    kind, module = module_of(file)
    target_kind, target_module = module_of(target)
    if target_kind == "private" and not (kind in ("private", "test") and module == target_module):
        return f"includes {target}, a private header of {target_module}"
    if target_kind == "test" and kind != "test":
        return f"includes {target}, a header of the tests"
    if target_kind == "public" and target_module not in MODULES:
        return f"includes {target} of a module that the layer table lacks"
    allowed = may_include(kind, module)
    if target_kind in ("public", "private") and allowed is not None and (
            target_module not in allowed):
        return f"includes {target}, but {module} may include only {' '.join(sorted(allowed))}"
    return None


def check_library(file, name):
    """A message where `file` may not include <name>, else None."""
    kind, module = module_of(file)
    if file.suffix in CUDA_SOURCES and TORCH_NAME.match(name):
        return f"includes <{name}>, but CUDA sources stay free of LibTorch"
    for pattern, owners in LIBRARIES:
        if not re.match(pattern, name):
            continue
        if owners is None or (kind == "test" and TEST_LIBRARY.match(name)):
            return None
        if kind == "test" or module not in MODULES:
            reach = may_include(kind, module)
            fine = reach is None or owners & reach
        else:
            fine = module in owners
        return None if fine else (
            f"includes <{name}>, which belongs to {' '.join(sorted(owners)) or 'the tests'}")
    return f"includes <{name}>, a library that tools/dev/check_layers.py does not know"


def find_cycles(graph):
    """One line for each circle of files that include each other."""
    problems, done = [], set()

    def visit(file, trail):
        if file in trail:
            circle = trail[trail.index(file):] + [file]
            problems.append(f"{file}: includes itself: " + " -> ".join(map(str, circle)))
        elif file not in done:
            for target in sorted(graph.get(file, ())):
                visit(target, trail + [file])
            done.add(file)

    for file in sorted(graph):
        visit(file, [])
    return problems


def check_links(root):
    """The same rules for the libraries that src/<module>/CMakeLists.txt links."""
    problems = []
    for path in sorted((root / "src").glob("*/CMakeLists.txt")):
        module = path.parent.name
        if module not in MODULES:
            problems.append(f"src/{module}: a module that the layer table lacks")
            continue
        for name in sorted(set(re.findall(r"\bqlora_(\w+)", path.read_text(encoding="utf-8")))):
            if name in MODULES and name not in may_include("private", module):
                problems.append(f"{path.relative_to(root)}: {module} may not link qlora_{name}")
    return problems


def check(root):
    """All problems of the project under `root`, one line each."""
    root = Path(root).resolve()
    problems, graph = [], {}
    files = [p for top in ("include", "src", "tests", "tools") for p in (root / top).rglob("*")
             if p.suffix in SOURCES]
    for path in sorted(files):
        file = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        graph[file] = set()
        for match in INCLUDE.finditer(text):
            bracket, name = match.groups()
            target = resolve(root, file, name) if bracket == '"' else None
            if bracket == "<":
                message = check_library(file, name)
            elif target is None:
                message = f'includes "{name}", which is not a file of this project'
            else:
                graph[file].add(target)
                message = check_own(file, target)
            if message:
                line = text.count("\n", 0, match.start(1)) + 1
                problems.append(f"{file}:{line}: {message}")
    return problems + find_cycles(graph) + check_links(root)


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
