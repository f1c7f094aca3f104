"""Damages inputs, kills commands, fills disks, starts two at once, and counts how that ends: docs/reliability.md.

    python benchmarks/reliability.py FOLDER mutations [--count N] [--seed S] [--only READER...]
    python benchmarks/reliability.py FOLDER kills [--count N] [--only COMMAND...]
    python benchmarks/reliability.py FOLDER disks
    python benchmarks/reliability.py FOLDER writers
    python benchmarks/reliability.py FOLDER table

Inputs are made in FOLDER once. Counts are added to FOLDER/counts.json, so that it can be run in pieces; faults are kept
in FOLDER/faults and listed in FOLDER/faults.jsonl. `table` prints the counts. What is tried lies in tests/.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    """Run one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("piece", choices=["mutations", "kills", "disks", "writers", "table"])
    parser.add_argument("--count", type=int, default=5000, help="of mutations or kills, over all")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    tally = Tally(given.folder)
    if given.piece == "table":
        tally.print()
        return
    warnings.simplefilter("ignore")
    logging.getLogger("floemap").setLevel(logging.CRITICAL)
    {"mutations": mutations, "kills": kills, "disks": disks, "writers": writers}[given.piece](given, tally)
    tally.print()


class Tally:
    """Counts by piece, name and end, kept in a file."""

    def __init__(self, folder: Path) -> None:
        self._path, self._faults = folder / "counts.json", folder / "faults.jsonl"
        self.counts: dict[str, dict[str, Counter[str]]] = {}
        if self._path.exists():
            said = json.loads(self._path.read_text())
            self.counts = {p: {n: Counter(c) for n, c in names.items()} for p, names in said.items()}

    def add(self, piece: str, name: str, end: str, fault: Any = None) -> None:
        """Count one try; `fault` tells of one that ended badly."""
        self.counts.setdefault(piece, {}).setdefault(name, Counter())[end] += 1
        if fault is not None:
            print(f"{piece} {name} {end}: {fault}", flush=True)
            with self._faults.open("a") as file:
                file.write(json.dumps({"piece": piece, "name": name, "end": end, "fault": fault}, default=str) + "\n")
        self._path.write_text(json.dumps(self.counts, indent=1))

    def print(self) -> None:
        """Print a table for each piece."""
        for piece, names in self.counts.items():
            ends = sorted({e for c in names.values() for e in c})
            print(f"\n| {piece} | tried | {' | '.join(ends)} |\n|{' --- |' * (len(ends) + 2)}")
            for name, count in (*names.items(), ("all", sum(names.values(), Counter()))):
                print(f"| {name} | {sum(count.values())} | {' | '.join(str(count[e]) for e in ends)} |")


def made_once(path: Path, make: Callable[[Path], object]) -> None:
    """Make inputs, unless they are there; in another process, so that this one stays small to fork."""
    from isolated import Isolated

    done = path / "done"
    if done.exists():
        return
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)

    def work(_: int) -> str:
        make(path)
        return ""

    for _, how in Isolated(work, cpu_s=600, memory_bytes=1 << 40).map([0]):
        assert how == "", how
    done.touch()


def inputs_in(folder: Path) -> Any:
    """Inputs of all commands."""
    import conftest
    from workshop import Inputs, make_inputs

    def make(path: Path) -> None:
        from floemap.simulation.safe.writer import write_safe

        product = write_safe(path / "product", spec, conftest._sigma0(spec), looks=10)
        make_inputs(path / "inputs", product)

    spec = conftest._spec()
    made_once(folder / "workshop", make)
    made = folder / "workshop"
    return Inputs(made / "inputs", next((made / "product").iterdir()).stem, made / "model.safetensors")


def mutations(given: argparse.Namespace, tally: Tally) -> None:
    """Give damaged inputs to every reader, each in its turn; a report is dear and gets a tenth."""
    from isolated import Isolated
    from readers import READERS, Case, Outcome, cases, judge, make_intact

    inputs = inputs_in(given.folder)
    place = given.folder / "readers" / "intact"
    made_once(place.parent, lambda _: make_intact(place, inputs))
    chosen = {n: r for n, r in READERS.items() if not given.only or n in given.only}
    work = given.folder / "work"
    shares = {n: 1 / 10 if n == "report" else 1 for n in chosen}
    for name, reader in chosen.items():
        count = round(given.count * shares[name] / sum(shares.values()))
        folder = place / name
        intact: list[str] = []

        def once(case: Case, reader: Any = reader, folder: Path = folder, intact: list[str] = intact) -> Outcome:
            if not intact:
                intact.append(judge(reader, folder, None, work).words)
            return judge(reader, folder, case, work, intact[0])

        for case, how in Isolated(once).map(islice(cases(reader, folder, given.seed), count)):
            end, fault = (how, True) if isinstance(how, str) else (how.end, how.fault)
            words = None if isinstance(how, str) else how.words
            told = {"victim": case.victim, "what": case.what, "seed": given.seed, "words": words}
            if fault:
                kept = given.folder / "faults" / f"{len(list((given.folder / 'faults').glob('*')))}"
                kept.mkdir(parents=True)
                (kept / Path(case.victim).name).write_bytes(case.content)
                told["kept"] = kept.name
            tally.add("mutations", name, end, told if fault else None)
    shutil.rmtree(work, ignore_errors=True)


#: How many of a hundred kills each command gets: those that take long get fewer.
KILLS = {
    "prepare": 12, "label": 12, "predict": 10, "chart": 12, "chart of a product": 6, "evaluate": 8, "info": 5,
    "simulate pixels": 8, "simulate twin": 6, "train": 6, "compare": 4, "report": 3, "fetch extremeearth": 5,
    "fetch weights": 3,
}  # fmt: skip


@contextmanager
def setting_in(given: argparse.Namespace) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Give what commands are run on, and those of them that were asked for."""
    import conftest
    from disturbed import JOBS, make_setting, opened

    from floemap.simulation.safe.writer import write_safe

    def make(path: Path) -> None:
        make_setting(path, write_safe(path / "product", spec, conftest._sigma0(spec), looks=10), studies=True)

    spec = conftest._spec()
    folder = given.folder / "setting"
    made_once(folder, make)
    with opened(folder, next((folder / "product").iterdir()).stem) as setting:
        yield setting, {n: j for n, j in JOBS.items() if not given.only or n in given.only}


def kills(given: argparse.Namespace, tally: Tally) -> None:
    """Kill commands at drawn moments, give them again, and compare with what undisturbed ones come to."""
    from disturbed import killed, undisturbed

    with setting_in(given) as (setting, jobs):
        for name, job in jobs.items():
            count = max(round(given.count * KILLS[name] / 100), 1)
            rng = random.Random(f"{given.seed} {name}")
            with fresh(given.folder / "place") as place:
                whole = undisturbed(job, setting, place)
            for _ in range(count):
                with fresh(given.folder / "place") as place:
                    end, wrong = killed(job, setting, whole, place, rng)
                tally.add("kills", name, end, wrong or None)


def disks(given: argparse.Namespace, tally: Tally) -> None:
    """Run commands on disks of 15 to 95 % of what they need, then give them room. Needs the right to mount."""
    from disturbed import cramped, undisturbed

    with setting_in(given) as (setting, jobs):
        for name, job in jobs.items():
            with fresh(given.folder / "place") as place:
                whole = undisturbed(job, setting, place)
            for share in (0.15, 0.5, 0.8, 0.95)[: given.count]:
                with fresh(given.folder / "place") as place:
                    tally.add("disks", name, *_judged(cramped(job, setting, whole, place, share)))


def writers(given: argparse.Namespace, tally: Tally) -> None:
    """Start a command twice or three times at once on one --out."""
    from disturbed import together, undisturbed

    with setting_in(given) as (setting, jobs):
        for name, job in jobs.items():
            with fresh(given.folder / "place") as place:
                whole = undisturbed(job, setting, place)
            for number in (2, 3)[: given.count]:
                with fresh(given.folder / "place") as place:
                    tally.add("writers", name, *_judged(together(job, setting, whole, place, number)))


def _judged(how: tuple[str, str]) -> tuple[str, str | None]:
    return how[0], how[1] or None


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """Give an empty folder, and remove it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
