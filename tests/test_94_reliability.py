"""Some damaged inputs for every reader, some kills, and two of a command at once.

Damaged input ends in an error of ours or in a result, in time; a disturbed command, given again, comes to what an
undisturbed one comes to. benchmarks/reliability.py tries thousands, and fills disks besides.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from readers import READERS, cases, judge, make_intact
from workshop import Inputs

from floemap.report.page import Pictures

#: Another seed does other damage: a search for what this one does not find.
SEED = os.environ.get("FLOEMAP_FUZZ_SEED", "20180116")
#: For each reader; a report takes seconds, the others hundredths.
CASES, REPORTS = 15, 2
HANGS_S = 120


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory, workshop: Inputs) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "intact"
    with pytest.MonkeyPatch.context() as m:
        m.setattr("floemap.report.report._draw", lambda *_: Pictures({}, {}, [], []))  # only checks are wanted
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
def test_damaged_input_is_refused_or_read(name: str, intact: Path, tmp_path: Path, sketched: None) -> None:
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


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str]]]:
    """How some commands ended that were killed, or met another of their kind; see tests/disturbed.py."""
    folder = tmp_path_factory.mktemp("disturbed")
    program = Path(__file__).with_name("disturbed.py")
    ran = subprocess.run([sys.executable, str(program), str(folder), SEED], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, list[tuple[str, str]]] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_a_killed_command_goes_on_or_begins_anew_and_comes_to_the_same(disturbed: dict) -> None:  # type: ignore[type-arg]
    assert disturbed["killed"]
    assert [how for how in disturbed["killed"] if how[1] not in ("survived", "ended before")] == []
    assert "survived" in {how[1] for how in disturbed["killed"]}


def test_two_of_a_command_on_one_folder_come_to_the_same(disturbed: dict) -> None:  # type: ignore[type-arg]
    assert disturbed["together"]
    ends = {"all made it", "one made it, others were told"}
    assert [how for how in disturbed["together"] if how[1] not in ends] == []


def test_undisturbed_commands_leave_nothing_among_temporary_files(disturbed: dict) -> None:  # type: ignore[type-arg]
    assert disturbed["temporary"] == []
