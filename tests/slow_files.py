"""Renews slow.txt, the test files that take long: `python tests/slow_files.py JUNIT.xml`.

The XML comes from `make test BESIDE="-n 2 --junitxml=build/junit.xml"`. Lines are `file seconds`, the longest first:
the run begins in this order, so that no long file is left to run alone, and `make quick` leaves these files out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from lxml import etree

SLOW = Path(__file__).with_name("slow.txt")

#: Seconds of all tests of a file together, from which on it is slow.
FROM = 6.0


def slow_files() -> list[str]:
    """Names of the slow files without `test_` and suffix, the longest first."""
    return [line.split()[0] for line in SLOW.read_text().splitlines()]


def renew(junit: Path) -> None:
    """Writes slow.txt anew from a run's JUnit file."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for case in etree.parse(junit).iter("testcase"):
        name = str(case.get("classname")).rpartition(".")[2]
        seconds[name.removeprefix("test_")] += float(str(case.get("time")))
    longest = sorted(seconds.items(), key=lambda of: -of[1])
    lines = [f"{name} {taken:.0f}\n" for name, taken in longest if taken >= FROM]
    SLOW.write_text("".join(lines))


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
