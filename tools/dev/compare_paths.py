#!/usr/bin/env python3
"""Whether the fused and the plain training path learn the same: their loss curves over seeds.

Trains each seed once by either path, all runs at once, and prints, for each window of steps, the
largest difference of mean loss between the paths at one seed beside the spread of the plain path
over the seeds. Exits with 1 where a window differs by more than the spread. On a GPU, with
bfloat16. What follows -- overrides settings:
  tools/dev/compare_paths.py --train build/bin/train --config run.yaml -- training.max_steps=300
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

PATHS = {"fused": "true", "plain": "false"}


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=pathlib.Path, default=pathlib.Path("build/bin/train"))
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--window", type=int, default=30, help="steps that are averaged")
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: one has no spread")
    return options


def start(options, folder, path, seed):
    output = folder / f"{path}-{seed}"
    output.mkdir()
    with open(output / "said", "w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [options.train, "--config", options.config, *options.overrides, f"training.seed={seed}",
             f"training.fused={PATHS[path]}", f"training.output_dir={output / 'run'}",
             "training.logging_steps=1"],
            stdout=subprocess.DEVNULL, stderr=said)
    return process, output


def finish(path, process, output):
    """The losses of a run, one a step."""
    process.wait()
    said = (output / "said").read_text(encoding="utf-8")
    if process.returncode != 0:
        words = said.strip().splitlines() or [f"stopped by signal {-process.returncode}"]
        sys.exit(f"compare_paths: {path}: {words[-1]}")
    if f"the {path} path trains" not in said:
        sys.exit(f"compare_paths: the {path} path did not train; train says why")
    lines = map(json.loads, (output / "run" / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def losses_of_all(options, seeds):
    """By path and seed: what its run logged. No run outlives a failure of another."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {(path, seed): start(options, pathlib.Path(folder), path, seed)
                for path in PATHS for seed in seeds}
        try:
            return {key: finish(key[0], *run) for key, run in runs.items()}
        finally:
            for process, _ in runs.values():
                process.kill()
                process.wait()


def windows(losses, width):
    return [statistics.mean(losses[i:i + width]) for i in range(0, len(losses) - width + 1, width)]


def main(arguments):
    options = parse(arguments)
    seeds = range(1, options.seeds + 1)
    curves = {key: windows(losses, options.window)
              for key, losses in losses_of_all(options, seeds).items()}
    if not curves["fused", 1]:
        sys.exit(f"compare_paths: fewer than {options.window} steps were trained")
    agree = True
    print(f"{'steps':>10} {'paths differ':>13} {'seeds differ':>13} {'loss':>8}")
    for i in range(len(curves["fused", 1])):
        plain = [curves["plain", seed][i] for seed in seeds]
        apart = max(abs(curves["fused", seed][i] - plain[seed - 1]) for seed in seeds)
        spread = max(plain) - min(plain)
        agree = agree and apart <= spread
        last = (i + 1) * options.window
        print(f"{last - options.window + 1:>5}-{last:<4} {apart:>13.5f} {spread:>13.5f} "
              f"{statistics.mean(plain):>8.4f}")
    print("the paths agree" if agree else "the paths differ by more than the seeds")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
