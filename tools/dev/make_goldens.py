#!/usr/bin/env python3
"""Makes the reference results under tests/data with PyPI packages of the HF stack.

They run in an environment of their own (goldens/requirements.txt pins it), never in the build's:
  tools/dev/make_goldens.py --output tests/data --data ../shared/data --models models [section ...]
Sections: quant adamw8bit tiny lora smollm2 templates tokenizers data_files formats batches chat
jinja
(default: all).
The same command gives the same numbers; tests/data/README.md describes the files.
"""

import argparse
import importlib
import os
import pathlib
import sys

SECTIONS = ("quant", "adamw8bit", "tiny", "lora", "smollm2", "templates", "tokenizers",
            "data_files", "formats", "batches", "chat", "jinja")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("tests/data"))
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path("models"),
                        help="holds SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"),
                        help="tokenizers and instruction data")
    parser.add_argument("--datasets", type=pathlib.Path, default=pathlib.Path("datasets"),
                        help="the project's own sets")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("sections", nargs="*", metavar="section",
                        help=" ".join(SECTIONS))
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}; known: {' '.join(SECTIONS)}")
    return options


def main(arguments):
    options = parse(arguments)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["HF_HUB_OFFLINE"] = os.environ["TQDM_DISABLE"] = "1"
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # eager arithmetic: no fused multiply-add
    import torch
    import transformers
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    for name in options.sections or SECTIONS:
        print(f"make {name}", flush=True)
        importlib.import_module(f"goldens.{name}").make(options)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    main(sys.argv[1:])
