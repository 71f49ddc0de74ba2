#!/usr/bin/env python3
"""Loads what our programs write in transformers, PEFT and bitsandbytes, and compares.

Takes the quickstart's results (an adapter trained on NF4 with double quantization) and the
environment of goldens/requirements.txt:
  tools/dev/check_with_peers.py --run outputs/quickstart
Checks: PEFT on the same dequantized weights, with our adapter, gives the same logits as our merged
model in transformers and the same greedy answers as our generate; a directory written by our
quantize loads by transformers with bitsandbytes as exactly the weights that we train on. Exits 1
where something differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

QUESTIONS = 8
NEW_TOKENS = 32
TOLERANCE = 2e-4  # of logits around 20, both sides in float32 with their sums in another order

problems = []


def expect(holds, text):
    print(("ok    " if holds else "FAILS ") + text, flush=True)
    if not holds:
        problems.append(text)


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True,
                          text=True).stdout


def gguf_of(options):
    from goldens import smollm2
    found = smollm2.gguf(options)
    return found["pretrained_model_name_or_path"] / found["gguf_file"]


def greedy(model, tokenizer, prompt):
    import torch
    with torch.no_grad():
        new = model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False)
    return tokenizer.decode(new[0, len(prompt):], skip_special_tokens=True)


def logits_of(model, prompts):
    import torch
    with torch.no_grad():
        return [model(torch.tensor([prompt])).logits[0] for prompt in prompts]


def check_adapter(options, folder, questions):
    """PEFT with our adapter against our merged model and our answers."""
    from goldens import smollm2
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    tokenizer = smollm2.tokenizer_of(options)
    prompts = [smollm2.encode(tokenizer, [{"role": "user", "content": q}], True)
               for q in questions]
    base = smollm2.load(options)
    smollm2.quantize(base, double=True)
    peft = PeftModel.from_pretrained(base, options.run / "adapter").eval()
    expected = logits_of(peft, prompts)

    gguf = gguf_of(options)
    run(options.bin / "merge", "--base", gguf, "--adapter", options.run / "adapter", "--output",
        folder / "merged", "--dtype", "float32")
    merged = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype="float32").eval()
    worst = max(float((a - b).abs().max()) for a, b in zip(expected,
                                                           logits_of(merged, prompts)))
    expect(worst < TOLERANCE, f"merged model's logits equal PEFT's: worst difference {worst:.1e}")
    for question, prompt in zip(questions, prompts):
        theirs = greedy(peft, tokenizer, prompt).strip()
        ours = run(options.bin / "generate", "--model", gguf, "--adapter", options.run / "adapter",
                   "--prompt", question, "--max_new_tokens", NEW_TOKENS).strip()
        expect(ours == theirs, f"{question!r}: {ours!r}" + ("" if ours == theirs else
                                                            f", PEFT: {theirs!r}"))


def check_quantized(options, folder):
    """Our 4-bit directory by transformers with bitsandbytes."""
    import bitsandbytes.functional as bnb
    import torch
    from goldens import smollm2
    from transformers import AutoModelForCausalLM
    run(options.bin / "quantize", "--model", gguf_of(options), "--type", "nf4", "--double_quant",
        "--output", folder / "nf4")
    loaded = AutoModelForCausalLM.from_pretrained(folder / "nf4", dtype=torch.float32)
    expected = smollm2.load(options)
    smollm2.quantize(expected, double=True)
    theirs = {name: module.weight for _, name, module in smollm2.targets(loaded)}
    different = [name for _, name, module in smollm2.targets(expected)
                 if not torch.equal(bnb.dequantize_4bit(theirs[name].data,
                                                        theirs[name].quant_state),
                                    module.weight)]
    expect(len(theirs) == 210 and not different,
           f"bitsandbytes reads {len(theirs)} weights, {len(different)} of them different")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, default=pathlib.Path("outputs/quickstart"))
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"))
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/bin"))
    parser.add_argument("--questions", type=pathlib.Path,
                        default=pathlib.Path("datasets/mossvane_en/heldout.jsonl"))
    options = parser.parse_args(arguments)
    lines = options.questions.read_text(encoding="utf-8").splitlines()[:QUESTIONS]
    questions = [json.loads(line)["instruction"] for line in lines]
    with tempfile.TemporaryDirectory() as folder:
        check_adapter(options, pathlib.Path(folder), questions)
        check_quantized(options, pathlib.Path(folder))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    sys.exit(main(sys.argv[1:]))
