"""Blockwise 8-bit AdamW, transcribed in float32 from the order of bitsandbytes' CUDA kernel.

Every operation rounds to float32 and none is fused. Codes are the nearest ones (quant.nearest_code)
followed by the sign repair; a block whose scale is zero gets the code of 0.
"""

import numpy as np
import torch

from . import common
from .quant import blocks_of, dynamic_map, nearest_code

BLOCK = 256
COUNT = 4096 + 256 * 3 + 17
STEPS = 20
STORED_STEPS = (1, 2, 20)
BAD_STEP = 3
BAD = {100: np.nan, 3000: np.inf, COUNT - 1: -np.inf}
F = np.float32
LR, BETA1, BETA2, EPS = F(1e-3), F(0.9), F(0.999), F(1e-8)
CASES = {"f32": (torch.float32, F(0)), "f32_decay": (torch.float32, F(0.01)),
         "bf16_decay": (torch.bfloat16, F(0.01))}


def rounded(values, dtype):
    return torch.from_numpy(values).to(dtype).float().numpy()


def gradient(step):
    """Stream 300 + step over 64; the third block stays zero throughout."""
    g = common.uniform(300 + step, COUNT) * F(2.0**-6)
    g[2 * BLOCK:3 * BLOCK] = 0
    if step == BAD_STEP:
        for index, value in BAD.items():
            g[index] = value
    return g


def dequantize(codes, absmax, table):
    return table[codes] * np.repeat(absmax, BLOCK)[:COUNT]


def requantize(values, table):
    """(codes, absmax) of updated moments."""
    absmax = np.abs(blocks_of(values, BLOCK)).max(axis=1)
    scale = np.repeat(absmax, BLOCK)[:COUNT]
    scaled = np.where(scale > 0, values / np.where(scale > 0, scale, F(1)), F(0)).astype(F)
    codes = nearest_code(scaled, table)
    wrong = np.signbit(table[codes]) != np.signbit(values)
    repaired = np.where(values > 0, codes + 1, codes - 1)
    return np.where(wrong, repaired, codes).astype(np.uint8), absmax


def update(param, grad, m, v, step, decay, dtype):
    """One step of unquantized moments; returns the parameter and the new moments."""
    good = np.isfinite(grad)
    g = np.where(good, grad, F(0))
    v = np.where(good, v * BETA2 + (F(1) - BETA2) * g * g, F(0))
    m = np.where(good, m * BETA1 + (F(1) - BETA1) * g, F(0))
    # Scalars of the step, as a host computes them: in double, then rounded once.
    correction1 = F(1 - float(BETA1)**step)
    correction2 = F(np.sqrt(1 - float(BETA2)**step))
    size = -LR * correction2 / correction1
    moved = rounded(param + size * (m / (np.sqrt(v) + correction2 * EPS)), dtype)
    if decay > 0:
        moved = rounded(moved * (F(1) - LR * decay), dtype)
    return np.where(good, moved, param), m, v


def run(dtype, decay):
    """Yields (step, param, c1, absmax1, c2, absmax2)."""
    signed, unsigned = dynamic_map(True), dynamic_map(False)
    blocks = -(-COUNT // BLOCK)
    param = rounded(common.uniform(300, COUNT) * F(2.0**-4), dtype)
    c1, c2 = np.zeros(COUNT, np.uint8), np.zeros(COUNT, np.uint8)
    a1, a2 = np.zeros(blocks, F), np.zeros(blocks, F)
    for step in range(1, STEPS + 1):
        grad = rounded(gradient(step), dtype)
        m, v = dequantize(c1, a1, signed), dequantize(c2, a2, unsigned)
        param, m, v = update(param, grad, m, v, step, decay, dtype)
        assert all(x.dtype == F for x in (param, m, v))
        c1, a1 = requantize(m, signed)
        c2, a2 = requantize(v, unsigned)
        yield step, param, c1, a1, c2, a2


def make(options):
    tensors = {}
    for name, (dtype, decay) in CASES.items():
        for step, param, c1, a1, c2, a2 in run(dtype, decay):
            if step in STORED_STEPS:
                key = f"{name}.{step}."
                tensors[key + "param"] = torch.from_numpy(param).to(dtype)
                tensors.update({key + "state1": c1, key + "absmax1": a1,
                                key + "state2": c2, key + "absmax2": a2})
    tensors["grad_1"] = gradient(1)  # lets a reader check its generator
    tensors["param_0"] = common.uniform(300, COUNT) * F(2.0**-4)
    common.write_tensors(options.output / "adamw8bit" / "adamw8bit.safetensors", tensors)
