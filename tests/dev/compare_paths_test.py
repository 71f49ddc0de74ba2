"""compare_paths.py must tell curves within the spread of seeds from those beyond it."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import support  # first: finds the tool
import compare_paths

# Trains nothing: losses that fall by the step and differ by 0.02 from seed to seed.
STUB = '''#!/usr/bin/env python3
import json, pathlib, sys
settings = dict(word.split("=", 1) for word in sys.argv if "=" in word)
fused = settings["training.fused"] == "true"
if settings.get("fail") == "1" and fused:
    sys.exit("train: error: out of memory")
taken = "fused" if fused and settings.get("refuse") != "1" else "plain"
print(f"the {taken} path trains: so", file=sys.stderr)
offset = 0.02 * int(settings["training.seed"]) + float(settings.get("offset", 0)) * fused
folder = pathlib.Path(settings["training.output_dir"])
folder.mkdir(parents=True)
lines = [json.dumps({"loss": 3 - 0.01 * i + offset}) for i in range(60)]
(folder / "metrics.jsonl").write_text("\\n".join([*lines, json.dumps({"eval_loss": 9})]))
'''


class ComparePaths(unittest.TestCase):
    def compare(self, *overrides, window="30"):
        """What the tool returns, or its last words."""
        with tempfile.TemporaryDirectory() as folder:
            train = pathlib.Path(folder) / "train"
            train.write_text(STUB, encoding="utf-8")
            train.chmod(0o755)
            arguments = ["--train", str(train), "--config", "run.yaml", "--window", window]
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    return compare_paths.main([*arguments, "--", *overrides])
            except SystemExit as stop:
                return stop.code

    def test_within_the_spread(self):
        self.assertEqual(self.compare("offset=0.03"), 0)

    def test_beyond_the_spread(self):
        self.assertEqual(self.compare("offset=0.05"), 1)

    def test_a_failed_run(self):
        self.assertIn("out of memory", self.compare("fail=1"))

    def test_a_path_that_was_not_taken(self):
        self.assertIn("the fused path did not train", self.compare("refuse=1"))

    def test_too_few_steps(self):
        self.assertIn("fewer than 61 steps", self.compare(window="61"))


if __name__ == "__main__":
    unittest.main()
