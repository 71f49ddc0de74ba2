"""NF4 and FP4, block 64, with and without double quantization.

`reference_*` are plain float32 transcriptions of the published algorithm, written apart from
bitsandbytes; the section stores both results, so that a difference between them is visible.
"""

import hashlib

import bitsandbytes.functional as bnb
import numpy as np
import torch

from . import common

BLOCK = 64
NESTED_BLOCK = 256

NF4_CODES = np.array([
    0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
    0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000,
], dtype=np.uint32).view(np.float32)
_FP4_MAGNITUDES = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3], np.float32) / np.float32(12)
FP4_CODES = np.concatenate([_FP4_MAGNITUDES, -_FP4_MAGNITUDES])
FP4_THRESHOLDS = np.array([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333,
                           0.8333333], np.float32)
FP4_ORDER = np.array([0, 1, 6, 7, 4, 5, 2, 3], np.uint8)
CODES = {"nf4": NF4_CODES, "fp4": FP4_CODES}

MAP_HASHES = {
    "signed": "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c",
    "unsigned": "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398",
}


def dynamic_map(signed):
    """The 256 values of the 8-bit dynamic map, checked against the published hash."""
    values = [torch.tensor([0.0, 1.0])]
    for i in range(7):
        bins = 2**i if signed else 2**(i + 1)
        edges = torch.linspace(0.1, 1, bins + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        part = 10.0**(i - 6) * middles
        values += [part, -part] if signed else [part]
    table = torch.sort(torch.cat(values)).values.numpy()
    name = "signed" if signed else "unsigned"
    found = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()
    if table.size != 256 or found != MAP_HASHES[name]:
        raise SystemExit(f"dynamic map ({name}): expected {MAP_HASHES[name]}, got {found}")
    return table


def blocks_of(values, size):
    """[blocks, size], the last one padded with zeros."""
    pad = -values.size % size
    return np.concatenate([values, np.zeros(pad, values.dtype)]).reshape(-1, size)


def nearest_code(scaled, table):
    """Index of the nearest entry of a sorted 256-entry map, by the kernels' binary search.

    Seven steps from pivot 127, then the midpoint to the neighbour on the last side visited; an
    exact tie stays at the pivot.
    """
    pivot = np.full(scaled.shape, 127, np.int64)
    lower = np.zeros(scaled.shape, np.int64)
    upper = np.full(scaled.shape, 255, np.int64)
    step = 64
    while step > 0:
        up = scaled > table[pivot]
        lower = np.where(up, pivot, lower)
        upper = np.where(up, upper, pivot)
        pivot = np.where(up, pivot + step, pivot - step)
        step //= 2
    up = scaled > table[pivot]
    half = np.float32(0.5)
    above = scaled > (table[upper] + table[pivot]) * half
    below = scaled < (table[lower] + table[pivot]) * half
    return np.where(up, np.where(above, upper, pivot),
                    np.where(below, lower, pivot)).astype(np.uint8)


def scale_of(absmax):
    """1/absmax in float32, and 0 for a block of zeros."""
    safe = np.where(absmax > 0, absmax, np.float32(1))
    with np.errstate(over="ignore"):
        return np.where(absmax > 0, np.float32(1) / safe, np.float32(0)).astype(np.float32)


def codes_of(scaled, kind):
    """4-bit codes of values in [-1, 1] by strict `x > threshold`: ties to the lower bound."""
    if kind == "nf4":
        middles = (NF4_CODES[1:] + NF4_CODES[:-1]) * np.float32(0.5)
        return np.searchsorted(middles, scaled, side="left").astype(np.uint8)
    rank = np.searchsorted(FP4_THRESHOLDS, np.abs(scaled), side="left")
    return FP4_ORDER[rank] | np.where(scaled < 0, 8, 0).astype(np.uint8)


def reference_quantize(values, kind, double):
    """Packed bytes and the scales of `values` (float32, any shape)."""
    rows = blocks_of(values.ravel(), BLOCK)
    absmax = np.abs(rows).max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.where(rows == 0, rows, rows * scale_of(absmax)[:, None])
    codes = codes_of(scaled.ravel(), kind)[:values.size]
    if codes.size % 2:
        codes = np.append(codes, codes_of(np.zeros(1, np.float32), kind))
    out = {"packed": codes[0::2] << 4 | codes[1::2], "absmax": absmax}
    if double:
        out.update(reference_nest(absmax))
    return out


def reference_nest(absmax):
    """Double quantization: 8-bit codes of absmax - mean, block 256."""
    offset = np.float32(absmax.astype(np.float64).mean())
    rows = blocks_of(absmax - offset, NESTED_BLOCK)
    nested = np.abs(rows).max(axis=1)
    scaled = (rows * scale_of(nested)[:, None]).ravel()[:absmax.size]
    return {"absmax_codes": nearest_code(scaled, dynamic_map(True)), "nested_absmax": nested,
            "nested_offset": np.array([offset], np.float32)}


def reference_absmax(state):
    """The float32 scales that dequantization uses: multiply, round, add, round."""
    if "absmax_codes" not in state:
        return state["absmax"]
    scale = np.repeat(state["nested_absmax"], NESTED_BLOCK)[:state["absmax_codes"].size]
    return dynamic_map(True)[state["absmax_codes"]] * scale + state["nested_offset"][0]


def reference_dequantize(state, kind, count):
    """float32 values: code * absmax, one rounding."""
    codes = np.stack([state["packed"] >> 4, state["packed"] & 15], axis=1).ravel()[:count]
    scale = np.repeat(reference_absmax(state), BLOCK)[:count]
    return CODES[kind][codes] * scale


def peer_quantize(values, kind, double):
    """The same by bitsandbytes on the CPU."""
    packed, state = bnb.quantize_4bit(torch.from_numpy(values), blocksize=BLOCK, quant_type=kind,
                                      compress_statistics=double)
    out = {"packed": packed.numpy().ravel()}
    if double:
        out.update(absmax_codes=state.absmax.numpy(), nested_absmax=state.state2.absmax.numpy(),
                   nested_offset=state.offset.reshape(1).numpy())
    else:
        out["absmax"] = state.absmax.numpy()
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16),
                        ("f16", torch.float16)):
        state.dtype = dtype
        out[name] = bnb.dequantize_4bit(packed, state).reshape(-1)
    return out


def ties(bounds):
    """Blocks whose largest value is 1 (or 2^-10), with every bound and both its neighbours."""
    near = np.concatenate([bounds, np.nextafter(bounds, np.float32(2)),
                           np.nextafter(bounds, np.float32(-2))])
    near = np.concatenate([near, np.zeros(-near.size % (BLOCK - 1), np.float32)])
    rows = np.concatenate([np.ones((near.size // (BLOCK - 1), 1), np.float32),
                           near.reshape(-1, BLOCK - 1)], axis=1).ravel()
    return np.concatenate([rows, rows * np.float32(2.0**-10)])


def inputs():
    """Name -> float32 values."""
    middles = (NF4_CODES[1:] + NF4_CODES[:-1]) * np.float32(0.5)
    fp4_middles = (np.sort(np.abs(FP4_CODES))[2::2] + np.sort(np.abs(FP4_CODES))[:-2:2]) / 2
    fp4_bounds = np.concatenate([FP4_THRESHOLDS, -FP4_THRESHOLDS, fp4_middles, -fp4_middles])
    zeros = common.normal(103, 5 * BLOCK, 0.05)
    zeros[BLOCK:2 * BLOCK] = 0
    zeros[4 * BLOCK:] = -0.0
    small = common.normal(104, 4 * BLOCK, 0.05)
    small[::3] = common.uniform(105, small[::3].size) * np.float32(1e-39)
    small[BLOCK:2 * BLOCK] = common.uniform(106, BLOCK) * np.float32(1e-36)
    outlier = common.normal(107, 3 * BLOCK, 0.02)
    outlier[70], outlier[150] = 1000.0, -3.0e38
    return {
        "random": common.normal(101, 32 * BLOCK, 0.05),
        "odd": common.normal(102, 15 * BLOCK + 41, 0.05),
        "zeros": zeros,
        "nf4_ties": ties(middles.astype(np.float32)),
        "fp4_ties": ties(fp4_bounds.astype(np.float32)),
        "denormals": small,
        "outlier": outlier,
        "single": np.array([0.3], np.float32),  # the nested block is zero
        # Two nested blocks, the second one partial; scales that vary by a factor of 40.
        "nested": common.normal(108, 260 * BLOCK + 7, 0.02) * np.repeat(
            1 + 39 * np.abs(common.uniform(109, 261)), BLOCK)[:260 * BLOCK + 7],
    }


def compare(expected, found):
    """How many elements differ in their bits."""
    def bits(x):
        return x.view(f"u{x.itemsize}")
    return {k: int((bits(expected[k]) != bits(found[k])).sum()) for k in expected if k in found}


def results(name, values, kind, double):
    """(reference, bitsandbytes) as they are stored, and where the two differ."""
    ours = reference_quantize(values, kind, double)
    peers = peer_quantize(values, kind, double)
    difference = compare(ours, peers)
    if double:
        ours.pop("absmax")
    ours["f32"] = reference_dequantize(ours, kind, values.size)
    if name == "nested":  # the long one: keep the bfloat16 results alone
        ours["bf16"] = torch.from_numpy(ours.pop("f32")).bfloat16()
        peers = {k: v for k, v in peers.items() if k not in ("f32", "f16")}
    return ours, peers, difference


def make(options):
    folder = options.output / "quant"
    maps = {"signed": dynamic_map(True), "unsigned": dynamic_map(False), "nf4": NF4_CODES,
            "fp4": FP4_CODES}
    common.write_tensors(folder / "maps.safetensors", maps)
    differences = {}
    tensors = {}
    for name, values in inputs().items():
        tensors[f"{name}.input"] = values
        for kind in ("nf4", "fp4"):
            for double in (True,) if name == "nested" else (False, True):
                key = f"{name}.{kind}{'_double' if double else ''}"
                ours, peers, differences[key] = results(name, values, kind, double)
                tensors.update({f"{key}.reference.{k}": v for k, v in ours.items()})
                tensors.update({f"{key}.bitsandbytes.{k}": v for k, v in peers.items()})
    common.write_tensors(folder / "quant.safetensors", tensors)
    common.write_json(folder / "differences.json", differences)
