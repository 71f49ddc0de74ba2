"""Tiny random models of every supported family: weights, float64 logits, loss and gradients.

transformers' modules run in double precision, with its RMSNorm's float32 detour removed; rotary
angles stay the float32 ones that every user of these models has.
"""

import json
import types

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MistralConfig
from transformers import Qwen2Config, Qwen3Config

from . import common

BATCH, LENGTH, VALID = 2, 17, 13  # the second row has 13 tokens, then padding
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 96,
         "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2}
# Wavelengths up to 16 stay, from 64 on they are scaled, between the two they are blended.
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
               "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}
WINDOW = 8
EXAONE_NAMES = (
    ("model.embed_tokens.", "transformer.wte."), ("model.layers.", "transformer.h."),
    ("model.norm.", "transformer.ln_f."), (".input_layernorm.", ".ln_1."),
    (".post_attention_layernorm.", ".ln_2."), (".self_attn.o_proj.", ".attn.attention.out_proj."),
    (".self_attn.", ".attn.attention."), (".mlp.gate_proj.", ".mlp.c_fc_0."),
    (".mlp.up_proj.", ".mlp.c_fc_1."), (".mlp.down_proj.", ".mlp.c_proj."),
)


def plain_rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


def families():
    """Name -> transformers configuration."""
    return {
        "llama2": LlamaConfig(**SIZES, num_attention_heads=4, num_key_value_heads=4,
                              rms_norm_eps=1e-5, rope_parameters=plain_rope(10000.0),
                              tie_word_embeddings=False),
        "llama3": LlamaConfig(**SIZES, num_attention_heads=2, num_key_value_heads=1,
                              rms_norm_eps=1e-5, rope_parameters=dict(LLAMA3_ROPE),
                              tie_word_embeddings=True),
        "mistral": MistralConfig(**SIZES, num_attention_heads=4, num_key_value_heads=2,
                                 rms_norm_eps=1e-5, rope_parameters=plain_rope(1e6),
                                 tie_word_embeddings=False, sliding_window=None),
        "qwen2": Qwen2Config(**SIZES, num_attention_heads=4, num_key_value_heads=2,
                             rms_norm_eps=1e-6, rope_parameters=plain_rope(1e6),
                             tie_word_embeddings=True),
        "qwen3": Qwen3Config(**SIZES, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                             rms_norm_eps=1e-6, rope_parameters=plain_rope(1e6),
                             tie_word_embeddings=False),
        "exaone": LlamaConfig(**(SIZES | {"vocab_size": 64}), num_attention_heads=2,
                              num_key_value_heads=1, head_dim=80, rms_norm_eps=1e-5,
                              rope_parameters=dict(LLAMA3_ROPE), tie_word_embeddings=True),
    }


def randomize(model, stream):
    """Fills parameter i of the model from stream + i; norms lie around 1, biases are not zero."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        values = torch.from_numpy(common.uniform(stream + index, parameter.numel()))
        values = values.view(parameter.shape)
        if "norm" in name:
            values = 1 + values / 2
        elif "embed" in name:
            values = values / 4
        elif parameter.dim() == 2:
            values = values * (3 / parameter.shape[1])**0.5
        parameter.data.copy_(values)


def batch(vocab):
    """input_ids, attention_mask and labels of one padded batch."""
    draws = (common.uniform(900, BATCH * LENGTH).reshape(BATCH, LENGTH) + 1) / 2
    ids = torch.from_numpy(3 + (draws * (vocab - 3)).astype(np.int64))
    mask = torch.ones_like(ids)
    ids[1, VALID:], mask[1, VALID:] = 0, 0
    labels = ids.clone()
    labels[mask == 0] = -100
    labels[0, :5] = -100
    labels[0, 9] = -100
    labels[1, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _exact_norm(self, x):
    variance = x.pow(2).mean(-1, keepdim=True)
    return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


def to_double(model):
    """The model in float64 throughout."""
    model.double()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(_exact_norm, module)
    return model


def loss_of(logits, labels):
    """Mean cross-entropy over the labelled next tokens."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]),
                                             labels[:, 1:].reshape(-1), ignore_index=-100)


def run(model, inputs):
    """(logits with padded rows zeroed, loss, embeddings' gradient); fills the parameters' grads."""
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    if embeddings.requires_grad:
        embeddings.retain_grad()
    else:  # a frozen base under an adapter
        embeddings.requires_grad_()
    logits = model(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"]).logits
    loss = loss_of(logits, inputs["labels"])
    loss.backward()
    return logits.detach() * inputs["attention_mask"][..., None], loss.detach(), embeddings.grad


def exaone_name(name):
    for ours, theirs in EXAONE_NAMES:
        name = name.replace(ours, theirs)
    return name


def exaone_config(config):
    return {
        "architectures": ["ExaoneForCausalLM"], "model_type": "exaone",
        "activation_function": "silu", "attention_dropout": 0.0, "embed_dropout": 0.0,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "head_dim": config.head_dim,
        "hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "layer_norm_epsilon": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_theta": LLAMA3_ROPE["rope_theta"],
        "rope_scaling": {k: v for k, v in LLAMA3_ROPE.items() if k != "rope_theta"},
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "vocab_size": config.vocab_size,
    }


def use_version_4_keys(folder):
    """Rewrites config.json as transformers 4 does: rope_theta, rope_scaling, torch_dtype."""
    path = folder / "config.json"
    before = AutoConfig.from_pretrained(folder)
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.48.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    assert AutoConfig.from_pretrained(folder).rope_parameters == before.rope_parameters


def save(model, name, folder):
    """Writes the checkpoint: exaone in bfloat16 under its own names, mistral in two shards."""
    if name == "exaone":
        folder.mkdir(parents=True, exist_ok=True)
        weights = {exaone_name(k): v.bfloat16() for k, v in model.named_parameters()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        text = json.dumps(exaone_config(model.config), indent=2)
        (folder / "config.json").write_text(text + "\n")
    else:
        model.save_pretrained(folder, max_shard_size="50KB" if name == "mistral" else "1GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        if name in ("llama2", "mistral", "qwen3"):
            use_version_4_keys(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def build(name, config):
    """The float32 model with its random weights (exaone's rounded to bfloat16)."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32,
                                             attn_implementation="sdpa")
    randomize(model, 1000 + 100 * list(families()).index(name))
    if name == "exaone":
        for parameter in model.parameters():
            parameter.data.copy_(parameter.data.bfloat16())
    return model.eval()


def windowed(name, inputs):
    """Mistral's logits with a sliding window, everything else the same."""
    config = families()[name]
    config.sliding_window = WINDOW
    model = to_double(build(name, config))
    logits, loss, _ = run(model, inputs)
    return {f"logits_window_{WINDOW}": logits.float(), f"loss_window_{WINDOW}": loss.view(1)}


def make(options):
    spread = {}
    for name, config in families().items():
        folder = options.output / "tiny" / name
        model = build(name, config)
        save(model, name, folder)
        inputs = batch(config.vocab_size)
        single, single_loss, _ = run(model, inputs)
        model.zero_grad()
        logits, loss, embeddings_grad = run(to_double(model), inputs)
        spread[name] = {"loss": float(loss),
                        "logits_abs_max": float(logits.abs().max()),
                        "float32_logits_abs_error": float((single - logits).abs().max()),
                        "float32_loss_abs_error": float((single_loss - loss).abs())}
        rename = exaone_name if name == "exaone" else str
        golden = {**inputs, "logits": logits.float(), "loss": loss.view(1),
                  "grad.inputs_embeds": embeddings_grad.float()}
        golden.update({f"grad.{rename(k)}": v.grad.float() for k, v in model.named_parameters()})
        if name == "mistral":
            golden.update(windowed(name, inputs))
        common.write_tensors(folder / "golden.safetensors", golden)
        check(folder, name)
    common.write_json(options.output / "tiny" / "precision.json", spread)


def check(folder, name):
    """What was saved loads again in transformers (all but exaone) and gives the same logits."""
    if name == "exaone":
        return
    golden = load_file(folder / "golden.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    logits = model(golden["input_ids"], attention_mask=golden["attention_mask"]).logits
    error = (logits * golden["attention_mask"][..., None] - golden["logits"]).abs().max()
    assert error < 1e-4, f"{name}: {error}"
