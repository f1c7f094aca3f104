"""Every command in a process of its own, which may be killed, run out of space, or meet another of its kind.

A run is a fork of this process, which has imported everything and done nothing: so it begins at once. What two
undisturbed runs have in common, a disturbed one must come to as well, once the same command is given again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import rasterio
import torch
from loopback import Loopback
from workshop import Inputs, make_inputs

from floemap.datasets.download.http import Services
from floemap.datasets.extremeearth.scenes import scene_of


@dataclass(frozen=True)
class Setting:
    """What commands are run on: inputs, a dataset to train on, a study of it, a finished comparison, servers."""

    inputs: Inputs
    study: Path
    compared: Path
    services: str
    weights: str

    def of_its_own(self, place: Path) -> Setting:
        """Copy what a report keeps its checks in."""
        copy = place / "compared"
        if not copy.exists():
            shutil.copytree(self.compared, copy)
        return replace(self, compared=copy)


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes
    ----------
    words
        Its call without ``--out``.
    within
        What of ``--out`` it is given.
    """

    name: str
    words: Callable[[Setting], list[str | Path]]
    within: str = ""


def _land(s: Setting) -> list[str | Path]:
    return [s.inputs.prepared, "--land", s.inputs.chart]


def _raster(s: Setting) -> list[str | Path]:
    """A product, and a raster for a layer of it: its own."""
    return [s.inputs.prepared, Path(s.inputs.prepared) / "product.tif"]


def _chart(s: Setting) -> list[str | Path]:
    return ["--model", s.inputs.model, "--min-area", "100"]


JOBS: dict[str, Job] = {
    j.name: j
    for j in (
        Job("prepare", lambda s: ["prepare", s.inputs.product, "--resolution", "2000"]),
        Job("label", lambda s: ["label", s.inputs.chart, "--like", s.inputs.prepared, "--fractions"]),
        Job(
            "layer distance-to-land",
            lambda s: ["layer", "distance-to-land", *_land(s)],
        ),
        Job("layer from-raster", lambda s: ["layer", "from-raster", *_raster(s), "--name", "of_a_raster"]),
        Job("predict", lambda s: ["predict", s.inputs.prepared, "--model", s.inputs.model]),
        Job("chart", lambda s: ["chart", s.inputs.prepared, *_chart(s)]),
        Job("chart of a product", lambda s: ["chart", s.inputs.product, *_chart(s), "--only", "classes,sigrid3"]),
        Job("evaluate", lambda s: ["evaluate", s.inputs.prediction, "--labels", s.inputs.labels]),
        Job("info", lambda s: ["info", s.inputs.chart]),
        Job("simulate pixels", lambda s: ["simulate", "pixels", s.inputs.product, "--chart", s.inputs.chart]),
        Job("simulate twin", lambda s: ["simulate", "twin", "--size", "64", "--months", "1,7"]),
        Job("train", lambda s: ["train", s.study, "--loss", "focal"]),
        Job("compare", lambda s: ["compare", s.study, "--no-report"]),
        Job("report", lambda s: ["report", s.compared], within="report"),
        Job("fetch extremeearth", lambda s: ["fetch", "extremeearth", "--months", "1"]),
        Job("fetch weights", lambda s: ["fetch", "weights"]),
    )
}


def begin(job: Job, setting: Setting, out: Path, place: Path) -> int:
    """Start a command in a forked process, in a session of its own; return the process.

    `place` gets what it says, in ``said``, and is its folder for temporary files, ``tmp``.
    """
    (place / "tmp").mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        said = os.open(place / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ["TMPDIR"] = str(place / "tmp")
        code = _in_child([str(w) for w in job.words(setting)] + ["--out", str(out / job.within)], setting)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _in_child(words: list[str], setting: Setting) -> int:
    import tempfile

    from tiny_model import WITH_TINY

    from floemap.cli.main import main
    from floemap.datasets.download.copernicus import PASSWORD_VARIABLE, USER_VARIABLE
    from floemap.datasets.extremeearth import fetch
    from floemap.learning.models import pretrained as weights

    tempfile.tempdir = None
    os.environ |= {USER_VARIABLE: "someone@example.org", PASSWORD_VARIABLE: "correct horse/battery+staple"}
    sys.argv = ["floemap", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        patch("floemap.learning.models.registry.MODELS", WITH_TINY),
        patch.object(fetch, "SERVICES", Services.at(setting.services)),
        patch.dict(weights.fetch_weights.__kwdefaults__, url=setting.weights),
        warnings.catch_warnings(action="ignore"),
    ):
        try:
            main()
        except SystemExit as e:
            return e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        except KeyboardInterrupt:
            return 130
    return 0


def ended(pid: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(job: Job, setting: Setting, out: Path, place: Path) -> int:
    """Run a command to its end."""
    return ended(begin(job, setting, out, place))


# What processes use, from /proc: a busy machine changes how long things take, and not how much work they are.


def session(leader: int) -> list[int]:
    """Processes of a session that are alive."""
    return [pid for pid, (state, of, _) in _processes().items() if of == leader and state not in "ZX"]


def work_s(leader: int) -> float:
    """Processor time of a session's processes, seconds."""
    return sum(ticks for _, of, ticks in _processes().values() if of == leader) / os.sysconf("SC_CLK_TCK")


def _processes() -> dict[int, tuple[str, int, int]]:
    """State, session and processor time, that of ended children included, by process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            found[int(stat.parent.name)] = fields[0], int(fields[3]), sum(map(int, fields[11:15]))
    return found


# What is in a folder. Records tell of their sources by relative paths, so all results lie equally deep.


def picture(folder: Path) -> dict[str, str]:
    """Everything below a folder, as names and what tells contents apart: JSON by its leaves, rasters by pixels too."""
    seen: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        name = path.relative_to(folder).as_posix()
        if path.name.endswith(".lock"):
            continue
        content = path.read_bytes()
        seen[name] = "there" if content else "empty"
        seen[f"{name} bytes"] = hashlib.sha256(content).hexdigest()
        with suppress(Exception):  # what is torn says so by what it lacks
            seen |= {f"{name} {k}": v for k, v in _inside(path, content)}
    return seen


def _inside(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    if path.suffix in (".json", ".geojson"):
        yield from _leaves(json.loads(content), "")
    elif path.suffix == ".jsonl":
        for i, line in enumerate(content.splitlines()):
            yield from _leaves(json.loads(line), f"{i}")
    elif path.suffix in (".tif", ".tiff"):
        with warnings.catch_warnings(action="ignore"), rasterio.open(path) as d:
            yield "pixels", hashlib.sha256(d.read().tobytes()).hexdigest()
    elif path.suffix == ".safetensors":
        (length,) = struct.unpack_from("<Q", content)
        yield "tensors", hashlib.sha256(content[8 + length :]).hexdigest()
    elif path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        for key, value in state.items():
            yield key, hashlib.sha256(repr(value).encode()).hexdigest()
    elif path.suffix == ".gpkg":
        with closing(sqlite3.connect(path)) as db:
            yield "rows", hashlib.sha256(repr(db.execute("SELECT * FROM ice_chart").fetchall()).encode()).hexdigest()


def _leaves(node: Any, path: str) -> Iterator[tuple[str, str]]:
    inside = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if inside is None:
        yield path, repr(node)
    else:
        for key, value in inside:
            yield from _leaves(value, f"{path}.{key}")


def names(seen: Mapping[str, str]) -> set[str]:
    """Names of the files in a picture."""
    return {name for name, said in seen.items() if said in ("there", "empty")}


@dataclass(frozen=True)
class Undisturbed:
    """What a command comes to when nothing happens to it.

    Attributes
    ----------
    files
        Names of its files.
    same
        What every run has alike.
    work_s
        Its processor time, seconds.
    need
        Space that it takes on a disk, bytes.
    """

    files: set[str]
    same: Mapping[str, str]
    work_s: float
    need: int

    def differs(self, folder: Path) -> str:
        """Say what is another in a folder; "" where nothing is."""
        seen = picture(folder)
        if names(seen) != self.files:
            return f"files {sorted(names(seen) ^ self.files)}"
        other = [name for name, said in self.same.items() if seen.get(name) != said]
        return f"contents of {other[:5]}" if other else ""


def undisturbed(job: Job, setting: Setting, place: Path) -> Undisturbed:
    """Run a command twice, into two folders."""
    seen, used = [], []
    for i in range(2):
        here, before = place / f"undisturbed{i}", os.times()
        code = run(job, setting.of_its_own(here), here / "out", here)
        assert code == 0, f"{job.name} left with {code}: {(here / 'said').read_text()}"
        after = os.times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
        seen.append(picture(here / "out"))
    need = sum(blocks(here / part) for part in ("out", "compared")) - blocks(setting.compared)
    assert names(seen[0]) == names(seen[1])
    # Times, and sizes of files that hold some, may be equal by chance. Of JSON the leaves say more than the bytes.
    chance = re.compile(r"seconds|created|\.bytes\.|\.jsonl? bytes$")
    both = {k: v for k, v in seen[0].items() if seen[1].get(k) == v and not chance.search(k)}
    return Undisturbed(names(seen[0]), both, min(used), need)


def blocks(folder: Path) -> int:
    """Bytes that the files in a folder take on a disk."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


# Disturbances


def kill_at(pid: int, work: float, number: int = signal.SIGKILL) -> bool:
    """Send a signal to a process once its session has done so much work; return whether it was still running."""
    while work_s(pid) < work:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return ended(pid) != 0


def left_behind(leader: int, patience_s: float = 60.0) -> list[int]:
    """Processes that outlive their leader for so long; they are ended then."""
    until = time.monotonic() + patience_s
    while (alive := session(leader)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return alive


def killed(job: Job, setting: Setting, whole: Undisturbed, place: Path, rng: random.Random) -> tuple[str, str]:
    """Kill a command, once or twice, give it again, and judge: return how it ended, and what is wrong with it."""
    out, abandoned, was_killed = place / "tried" / "out", _unused(), 0
    setting = setting.of_its_own(place / "tried")
    for _ in range(rng.choice([1, 1, 1, 2])):
        pid = begin(job, setting, out, place)
        was_killed += kill_at(pid, rng.random() * whole.work_s)
        if alive := left_behind(pid):
            return "orphans", f"{len(alive)} processes went on"
    code = run(job, setting, out, place)
    if code:
        return "next run failed", f"{code}: {(place / 'said').read_text()[-500:]}"
    if wrong := whole.differs(out):
        return "other result", wrong
    temporary, shared = sorted(p.name for p in (place / "tmp").iterdir()), _abandoned(abandoned)
    if temporary or shared:
        return "left behind", f"{temporary}, {sorted(shared)}"
    return ("survived" if was_killed else "ended before"), ""


def _abandoned(before: set[str], patience_s: float = 20.0) -> set[str]:
    """Names of new shared memory that no living process uses, and that is not removed in time.

    Others work on this machine, too, and what they leave is removed by a process of theirs, a little later.
    """
    found, until = _unused() - before, time.monotonic() + patience_s
    while found and time.monotonic() < until:
        time.sleep(0.5)
        found &= _unused()
    return found


def _unused() -> set[str]:
    there, used = {str(p) for p in Path("/dev/shm").glob("*")}, set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            used |= set(re.findall(r"/dev/shm/\S+", maps.read_text()))
    return there - used


def cramped(job: Job, setting: Setting, whole: Undisturbed, place: Path, share: float) -> tuple[str, str]:
    """Run a command on a disk of a share of what it needs, then give it room, and judge. Needs the right to mount."""
    disk = place / "tried"
    disk.mkdir(parents=True)
    size = blocks(setting.compared) + max(int(share * whole.need), 1 << 12)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], check=True)
    try:
        setting = setting.of_its_own(disk)
        code = run(job, setting, disk / "out", place)
        said = (place / "said").read_text()
        if code == 0:
            wrong = whole.differs(disk / "out")
            return ("other result", wrong) if wrong else ("had room", "")
        if code != 1 or "unexpected" in said or "Traceback" in said:
            return "unexpected", f"{code}: {said[-500:]}"
        subprocess.run(["mount", "-o", f"remount,size={1 << 31}", str(disk)], check=True)
        if run(job, setting, disk / "out", place):
            return "next run failed", (place / "said").read_text()[-500:]
        wrong = whole.differs(disk / "out")
        return ("other result", wrong) if wrong else ("said so", "")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def together(job: Job, setting: Setting, whole: Undisturbed, place: Path, number: int) -> tuple[str, str]:
    """Start a command several times at once on one ``--out``, and judge."""
    setting = setting.of_its_own(place / "tried")
    places = [place / str(i) for i in range(number)]
    codes = [ended(pid) for pid in [begin(job, setting, place / "tried" / "out", p) for p in places]]
    said = "".join((p / "said").read_text() for p in places)
    if not {*codes} <= {0, 1} or 0 not in codes or "unexpected" in said or "Traceback" in said:
        return "unexpected", f"{codes}: {said[-500:]}"
    if wrong := whole.differs(place / "tried" / "out"):
        return "other result", wrong
    return ("all made it" if not any(codes) else "one made it, others were told"), ""


STUDY = """
name = "small"
[data]
folder = "{folder}"
months = [1, 2, 3]
[data.prepare]
resolution_m = 8000.0
[model]
name = "tiny"
[crops]
size_px = 32
per_scene = 4
[training]
batch = 2
max_epochs = 3
precision = "fp32"
[compare]
losses = ["dice", "focal"]
repeats = 1
"""


def make_setting(folder: Path, product: Path, *, studies: bool) -> None:
    """Make what commands are run on, from a small product; without `studies`, nothing to train on or to report."""
    from run_maker import make_run

    from floemap.simulation.twin import make_twin

    make_inputs(folder / "inputs", product)
    if not studies:
        (folder / "compared").mkdir()
        return
    make_twin(folder / "twin", 128, months=(1, 2, 3))
    (folder / "study.toml").write_text(STUDY.format(folder=folder / "twin"))
    make_run(folder / "compared", losses=("dice", "focal"), repeats=1, scenes=("01",))


@contextmanager
def opened(folder: Path, name: str) -> Iterator[Setting]:
    """Give the setting that was made in a folder, with data services on loopback; `name` is the product's."""
    from small_dataset import write_chart, write_product, zip_files

    month, remote = scene_of(1), folder / "remote"
    if not remote.exists():
        write_product(remote, month, container="zip")
        write_chart(remote / "charts", month)
        zip_files(remote / "EE_v-2-0-0.zip", sorted((remote / "charts").iterdir()), "EE/Sea_Ice-labels/")
    body = random.Random(0).randbytes(3_000_000)
    weights = f"net-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    with Loopback() as server:
        charts = {"EE_v-2-0-0.zip": (remote / "EE_v-2-0-0.zip").read_bytes(), "README.txt": b"words"}
        server.files = charts | {weights: body}
        server.record = {
            "files": [
                {"key": n, "size": len(b), "checksum": hashlib.md5(b).hexdigest()}
                | {"links": {"self": f"{server.url}/files/{n}"}}
                for n, b in charts.items()
            ]
        }
        server.products = {month.product: (remote / f"{month.product}.zip").read_bytes()}
        server.piece_s, server.piece_bytes = 0.02, 1 << 16
        address = f"{server.url}/files/{weights}"
        inputs = Inputs(folder / "inputs", name, folder / "model.safetensors")
        yield Setting(inputs, folder / "study.toml", folder / "compared", server.url, address)


def main(folder: Path, seed: str) -> None:
    """Disturb some commands that take little, and print how that ended."""
    import conftest
    from isolated import Isolated

    from floemap.simulation.safe.writer import write_safe

    def make(place: Path) -> str:
        spec = conftest._spec()
        make_setting(place, write_safe(place / "product", spec, conftest._sigma0(spec), looks=10), studies=False)
        return ""

    place = folder / "setting"
    for _, how in Isolated(make, cpu_s=300, memory_bytes=1 << 40).map([place]):
        assert how == "", how
    found: dict[str, list[Any]] = {"killed": [], "together": [], "temporary": []}
    rng = random.Random(seed)
    with opened(place, next((place / "product").iterdir()).stem) as setting:
        for name in ("prepare", "label", "layer distance-to-land", "layer from-raster", "fetch extremeearth"):
            here = folder / name
            whole = undisturbed(JOBS[name], setting, here / "whole")
            found["temporary"] += [str(p) for p in here.glob("whole/undisturbed*/tmp/*")]
            found["killed"].append((name, *killed(JOBS[name], setting, whole, here / "killed", rng)))
            if name in ("prepare", "label", "layer distance-to-land"):
                found["together"].append((name, *together(JOBS[name], setting, whole, here / "both", 2)))
    print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)  # forked processes have no others
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), sys.argv[2])
