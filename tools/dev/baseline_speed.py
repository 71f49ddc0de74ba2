#!/usr/bin/env python3
"""Training speed of transformers + PEFT in float32 on this machine's CPU, to compare ours with.

SmolLM2-135M-Instruct, LoRA r 8 on all seven linears, 2 x 128 tokens a step, every token labelled,
no checkpointing, torch's AdamW. Needs the environment of goldens/requirements.txt:
  tools/dev/baseline_speed.py --models models --threads 2
Prints the median of the steps' tokens per second; run it beside the other program's run, on an
otherwise idle machine.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

BATCH, LENGTH, RANK = 2, 128, 8


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2, help="first steps that do not count")
    options = parser.parse_args(arguments)
    if not 0 <= options.warmup < options.steps:
        parser.error("--warmup must be less than --steps")
    return options


def seconds_of_steps(options):
    """Seconds of each step after the warm-up."""
    import torch
    from goldens import smollm2
    from peft import LoraConfig, get_peft_model
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=16, lora_dropout=0.0,
                        target_modules=list(smollm2.TARGETS), task_type="CAUSAL_LM")
    model = get_peft_model(smollm2.load(options), config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    seconds = []
    for step in range(options.steps):
        ids = torch.randint(3, model.config.vocab_size, (BATCH, LENGTH))
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        print(f"step {step + 1}: loss {loss.item():.4f}, {BATCH * LENGTH / seconds[-1]:.1f} tok/s",
              flush=True)
    return seconds[options.warmup:]


def main(arguments):
    options = parse(arguments)
    os.environ["HF_HUB_OFFLINE"] = os.environ["TQDM_DISABLE"] = "1"
    rates = [BATCH * LENGTH / s for s in seconds_of_steps(options)]
    print(f"transformers + PEFT, float32, {options.threads} threads: median "
          f"{statistics.median(rates):.1f} tok/s of {len(rates)} steps "
          f"({min(rates):.1f} to {max(rates):.1f})")


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    main(sys.argv[1:])
