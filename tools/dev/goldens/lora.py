"""LoRA on the tiny Qwen2: PEFT's saved adapters, float64 results, gradients and merged weights."""

import json

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from . import common, tiny

RANK, ALPHA = 4, 8
BASE = "qwen2"
MERGED = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")


def randomize(model):
    """A and B of the i-th adapted linear from streams 2000 + 2i and 2000 + 2i + 1, over 4."""
    linears = [m for m in model.modules() if hasattr(m, "lora_A")]
    for index, linear in enumerate(linears):
        for offset, part in enumerate((linear.lora_A, linear.lora_B)):
            weight = part["default"].weight
            values = common.uniform(2000 + 2 * index + offset, weight.numel()) / 4
            weight.data.copy_(torch.from_numpy(values).view(weight.shape))


def adapted(options, rslora):
    """The base with random A and B on every linear but lm_head."""
    base = AutoModelForCausalLM.from_pretrained(options.output / "tiny" / BASE,
                                                dtype=torch.float32, attn_implementation="sdpa")
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, use_rslora=rslora,
                        target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base.eval(), config).eval()
    randomize(model)
    return model


def save(model, folder):
    """The adapter as PEFT writes it, with the base named and the set of targets sorted."""
    model.peft_config["default"].base_model_name_or_path = f"tiny/{BASE}"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "adapter_model.safetensors").chmod(0o644)


def file_name(parameter):
    """A parameter's name in PEFT's files: without the adapter's own name."""
    return parameter.replace(".default.", ".")


def make(options):
    for name, rslora in (("plain", False), ("rslora", True)):
        folder = options.output / "tiny" / f"{BASE}_lora_{name}"
        model = adapted(options, rslora)
        save(model, folder)
        tiny.to_double(model)
        inputs = tiny.batch(model.config.vocab_size)
        logits, loss, embeddings_grad = tiny.run(model, inputs)
        golden = {**inputs, "logits": logits.float(), "loss": loss.view(1),
                  "grad.inputs_embeds": embeddings_grad.float()}
        golden.update({f"grad.{file_name(k)}": v.grad.float()
                       for k, v in model.named_parameters() if v.requires_grad})
        merged = model.merge_and_unload().state_dict()
        golden.update({f"merged.{k}.weight": merged[f"{k}.weight"].float() for k in MERGED})
        common.write_tensors(folder / "golden.safetensors", golden)
