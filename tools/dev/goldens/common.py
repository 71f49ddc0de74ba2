"""What every section shares: the reproducible numbers, and how results are written."""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file


def uniform(stream, count, start=0):
    """`count` float32 values in [-1, 1), the same in any language.

    Value e of stream s is splitmix64's output for the state ((s + 1) << 40) + e, whose upper
    24 bits u give (u - 2^23) * 2^-23: exact in float32. Streams hold up to 2^40 values.
    """
    with np.errstate(over="ignore"):
        index = np.arange(start, start + count, dtype=np.uint64)
        z = (np.uint64(stream + 1) << np.uint64(40)) + index
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return (u.astype(np.float64) * 2.0**-23).astype(np.float32)


def normal(stream, count, scale=1.0):
    """float32 values near a normal distribution: the sum of 12 uniforms (variance 1/3) over 2."""
    parts = uniform(stream, 12 * count).reshape(12, count).astype(np.float64)
    return (parts.sum(axis=0) / 2 * scale).astype(np.float32)


def write_tensors(path, tensors, metadata=None):
    """Writes a safetensors file from numpy arrays and torch tensors."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {}
    for name, value in tensors.items():
        value = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(
            value, np.ndarray) else value.detach()
        plain[name] = value.contiguous().clone()
    save_file(plain, path, metadata=metadata)
    path.chmod(0o644)


def write_json(path, value):
    """Writes readable UTF-8 JSON: groups of numbers on one line, text one a line."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _layout(value, "")
    path.write_text(text + "\n", encoding="utf-8")


def _layout(value, indent):
    flat = json.dumps(value, ensure_ascii=False)
    parts = value.values() if isinstance(value, dict) else value
    scalars = not any(isinstance(v, (dict, list, str)) for v in parts) if isinstance(
        value, (dict, list)) else True
    if scalars:
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {_layout(v, inner)}"
                for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + indent + "}"
    rows = [inner + _layout(v, inner) for v in value]
    return "[\n" + ",\n".join(rows) + "\n" + indent + "]"
