#!/usr/bin/env python3
"""The tokenizers package on one core, for comparison with `benchmark tokenizer`.

  python3 -m venv /tmp/peers && /tmp/peers/bin/pip install tokenizers
  /tmp/peers/bin/python tools/dev/tokenizer_speed.py --model DIR --text FILE [--passes 5]
It encodes the same lines, by the package's fastest call (without offsets).
"""

import argparse
import json
import os
import pathlib
import statistics
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--passes", type=int, default=5)
    options = parser.parse_args()
    tokenizer = tokenizers.Tokenizer.from_file(str(options.model / "tokenizer.json"))
    lines = [line for line in options.text.read_bytes().decode("utf-8").split("\n") if line]
    seconds = []
    for _ in range(options.passes):
        start = time.process_time()
        encodings = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        tokens = sum(len(encoding.ids) for encoding in encodings)
        seconds.append(time.process_time() - start)
    print(json.dumps({
        "tokenizers": tokenizers.__version__, "lines": len(lines), "tokens": tokens,
        "tokens_per_second": tokens / statistics.median(seconds),
        "tokens_per_second_at_first": tokens / seconds[0]}, indent=2))


if __name__ == "__main__":
    main()
