"""Small trees for testing the checks under tools/dev."""

import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "dev"))


class TreeTest(unittest.TestCase):
    """Runs a check over a tree that a test describes as {path: text}."""

    def problems(self, check, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            return check(root)

    def assert_one(self, check, files, *parts):
        """The tree has exactly one problem, whose line holds every one of `parts`."""
        problems = self.problems(check, files)
        self.assertEqual(len(problems), 1, problems)
        for part in parts:
            self.assertIn(part, problems[0])
