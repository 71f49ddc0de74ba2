#!/usr/bin/env python3
"""Writes include/qlora/kernels/dynamic_maps.h, the two 8-bit dynamic maps of bitsandbytes.

Value k of 2^i (signed) or 2^(i+1) (unsigned) bins, i = 0..6, is 10^(i-6) times the middle of bin k
of [0.1, 1]; the signed map adds the negatives, both add 0 and 1. The last bits are those of
torch.linspace in float32 (torch 2.11 with AVX2), so the table is kept, not computed at run time.
  python tools/dev/make_dynamic_maps.py [--check]
"""

import hashlib
import pathlib
import struct
import sys

import torch

TARGET = pathlib.Path(__file__).resolve().parents[2] / "include/qlora/kernels/dynamic_maps.h"
SHA256 = {
    True: "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
    False: "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398",
}
HEAD = """\
#pragma once
// The 8-bit dynamic maps of bitsandbytes: ascending float32 values of the codes 0..255.
// Made by tools/dev/make_dynamic_maps.py, which says how. Not to be edited by hand.

#include "qlora/kernels/table.h"

namespace qlora::kernels {
"""


def dynamic_map(signed):
    """The 256 float32 values in ascending order, checked against the published hash."""
    parts = [torch.tensor([0.0, 1.0])]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1 if signed else 2**(i + 1) + 1)
        values = 10.0**(i - 6) * ((edges[:-1] + edges[1:]) / 2)
        parts += [values, -values] if signed else [values]
    table = torch.sort(torch.cat(parts)).values.tolist()
    found = hashlib.sha256(struct.pack("<256f", *table)).hexdigest()
    if found != SHA256[signed]:
        raise SystemExit(f"dynamic map: expected SHA-256 {SHA256[signed]}, got {found}; "
                         "use the torch version and processor that the docstring names")
    return table


def declaration(name, comment, table):
    rows = [", ".join(f"{value:.9g}f" if "." in f"{value:.9g}" or "e" in f"{value:.9g}"
                      else f"{value:.1f}f" for value in table[i:i + 5]) for i in range(0, 256, 5)]
    return (f"\n// {comment}\n// clang-format off\ninline constexpr Table<256> {name} = {{{{\n    "
            + ",\n    ".join(rows) + ",\n}};\n// clang-format on\n")


def main(arguments):
    text = HEAD
    text += declaration("kSignedMap", "127 negatives, 0 at code 127, 128 positives; no -1.",
                        dynamic_map(True))
    text += declaration("kUnsignedMap", "0 at code 0, then 255 positives.", dynamic_map(False))
    text += "\n}  // namespace qlora::kernels\n"
    if arguments == ["--check"]:
        if TARGET.read_text() != text:
            raise SystemExit(f"{TARGET.name} differs from what this script writes")
    else:
        TARGET.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
