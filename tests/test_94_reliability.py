"""Some damaged inputs for every reader: each ends in an error of ours or in a result, in time.

benchmarks/reliability.py tries thousands, and kills and fills disks besides.
"""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from readers import READERS, cases, judge, make_intact
from workshop import Inputs

#: Another seed does other damage: a search for what this one does not find.
SEED = os.environ.get("FLOEMAP_FUZZ_SEED", "20180116")
#: For each reader; a report takes seconds, the others hundredths.
CASES, REPORTS = 25, 3
HANGS_S = 120


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory, workshop: Inputs) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "intact"
    make_intact(folder, workshop)
    return folder


@pytest.fixture(autouse=True)
def _no_hanging() -> Iterator[None]:
    def hangs(signum: int, frame: types.FrameType | None) -> None:
        raise AssertionError(f"nothing ended within {HANGS_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_refused_or_read(name: str, intact: Path, tmp_path: Path) -> None:
    reader, folder = READERS[name], intact / name
    made = judge(reader, folder, None, tmp_path)
    assert made.end in ("other", "wrong"), made  # than "", what nobody makes
    ends = []
    for case in islice(cases(reader, folder, SEED), REPORTS if name == "report" else CASES):
        signal.alarm(HANGS_S)
        outcome = judge(reader, folder, case, tmp_path, made.words)
        assert not outcome.fault, outcome
        ends.append(outcome.end)
    assert len({*ends}) > 1 or name == "report"  # damage is found, and not everything is called damage
