#!/usr/bin/env python3
"""Sums up GoogleTest's XML reports in one line.

Usage: tools/dev/count_tests.py REPORTS_DIR
"""

import sys
import xml.etree.ElementTree as xml
from pathlib import Path


def count(folder):
    """{"run", "failed", "skipped", "gpu"}: cases; gpu: skipped ones of suites named Gpu..."""
    counts = dict.fromkeys(("run", "failed", "skipped", "gpu"), 0)
    for report in sorted(Path(folder).glob("*.xml")):
        for case in xml.parse(report).getroot().iter("testcase"):
            if case.get("result") == "suppressed":  # filtered out
                continue
            counts["run"] += 1
            counts["failed"] += case.find("failure") is not None
            if case.get("result") == "skipped":
                counts["skipped"] += 1
                counts["gpu"] += case.get("classname").startswith("Gpu")
    return counts


def main():
    counts = count(sys.argv[1])
    passed = counts["run"] - counts["failed"] - counts["skipped"]
    print(f"test cases: {passed} passed, {counts['failed']} failed, {counts['skipped']} skipped "
          f"({counts['gpu']} of them need a GPU)")


if __name__ == "__main__":
    main()
