"""Processes that were started together train one model, or are refused; no two ever train into one folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings

from floemap.errors import ConfigError, FloemapError, OutputError
from floemap.learning.training.launched import Place, first_address, place, tasks
from floemap.learning.training.loop import train
from floemap.legend import SIX_CLASSES
from floemap.results.stage import alone_in, read_json
from floemap.study.compare import compare, train_model
from floemap.study.settings import Study

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "host0", "MASTER_PORT": "29500"}
#: As srun sets them for the last of four tasks on two hosts.
SRUN = {"SLURM_JOB_ID": "4123456", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "4"}
SRUN |= {"SLURM_STEP_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_NODEID": "1"}
SRUN |= {"SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
#: Everything by which a process may be told that it has company.
VARIABLES = {*TORCHRUN, *SRUN, "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_NODELIST"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun --ntasks=1 within four
        {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
)
def test_a_process_of_its_own(environ: dict[str, str]) -> None:
    assert place(environ) == Place(0, 1, 0, 1)


def test_processes_of_torchrun_and_of_srun() -> None:
    assert place(TORCHRUN) == place(SRUN) == Place(rank=3, world=4, local_rank=1, local_world=2)
    assert place(SRUN | TORCHRUN | {"RANK": "2", "LOCAL_RANK": "0"}) == Place(2, 4, 0, 2), "torchrun in a task of SLURM"
    assert first_address(TORCHRUN) == ("host0", 29500)
    host, port = first_address(SRUN)
    assert host == "gpu07" and 15_000 <= port < 25_000
    assert first_address(SRUN | {"SLURM_STEP_ID": "3"})[1] != port, "two steps of one job do not meet"
    assert first_address(SRUN | {"MASTER_ADDR": "ib07", "MASTER_PORT": "1234"}) == ("ib07", 1234)
    assert place(SRUN).variables("gpu07", port) == TORCHRUN | {"GROUP_RANK": "1"} | {
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(port),
    }


REFUSED = {
    "WORLD_SIZE without a rank": ({"WORLD_SIZE": "2"}, r"RANK, LOCAL_RANK, .* not set.*torchrun"),
    "no address": ({k: v for k, v in TORCHRUN.items() if k != "MASTER_ADDR"}, "MASTER_ADDR is not set"),
    "tasks without a number": ({"SLURM_STEP_NUM_TASKS": "2"}, r"SLURM_PROCID, SLURM_LOCALID is not set"),
    "an allocation, not a step": ({"SLURM_NTASKS": "2"}, r"SLURM has 2 tasks.*srun"),
    "a batch script": ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, r"SLURM has 2 tasks.*srun"),
    "Open MPI": ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, r"2 processes.*torchrun"),
    "MPICH": ({"PMI_SIZE": "3"}, "3 processes"),
    "uneven hosts": (SRUN | {"SLURM_STEP_NUM_TASKS": "3"}, r"3 tasks on 2 hosts.*ntasks-per-node"),
    "a rank beyond": (TORCHRUN | {"RANK": "4"}, "impossible"),
    "no number": (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    "another script's digits": (TORCHRUN | {"WORLD_SIZE": "\u0664"}, "not a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_processes_that_do_not_know_of_each_other_are_refused(
    case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before any work, by training and by whatever trains."""
    environ, words = REFUSED[case]
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):  # each of them
        with pytest.raises(ConfigError, match=words):
            train_model(Study(), tmp_path / "run")
        with pytest.raises(ConfigError, match=words):
            train([scene("a", 1)], [scene("v", 3)], tiny_settings(), SIX_CLASSES, tmp_path / "run", about=ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("environ", [TORCHRUN, SRUN, {"SLURM_NTASKS": "2"}, {"OMPI_COMM_WORLD_SIZE": "2"}])
def test_comparisons_are_of_one_process(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert tasks() > 1
    with pytest.raises(ConfigError, match="by itself"):
        compare(Study(), tmp_path / "run")
    assert not list(tmp_path.iterdir())


TRAINING = """
import sys, torch, warnings
from pathlib import Path
warnings.simplefilter("error")
sys.path.insert(0, {tests!r})
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
import floemap.learning.models.registry as models
from floemap.errors import FloemapError
from floemap.learning.training.loop import train
from floemap.legend import SIX_CLASSES
models.MODELS = WITH_TINY
torch.set_num_threads(1)
parts = [scene("a", 1), scene("b", 2)], [scene("v", 3)]
try:
    train(*parts, tiny_settings(max_epochs={epochs}), SIX_CLASSES, Path({out!r}), about=ABOUT, device="cpu")
except FloemapError as e:
    sys.exit(str(e))
"""


def started(out: Path, epochs: int, **environ: str) -> subprocess.Popen[str]:
    """Begin a training in a process of its own."""
    script = TRAINING.format(tests=str(Path(__file__).parent), epochs=epochs, out=str(out))
    env = {k: v for k, v in os.environ.items() if k not in VARIABLES} | {"OMP_NUM_THREADS": "1"} | environ
    return subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.PIPE, text=True)


def free_job() -> str:
    """Return the number of a job whose port is free: other tests open ports, too."""
    for job in range(os.getpid(), os.getpid() + 100):
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", first_address({"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": "0"})[1]))
            return str(job)
    raise AssertionError("no port is free")


def test_two_tasks_of_srun_train_one_model(tmp_path: Path) -> None:
    srun = {"SLURM_JOB_ID": free_job(), "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}
    srun |= {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "localhost"}
    ran = [started(tmp_path, 2, **srun, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)) for i in range(2)]
    said = [p.communicate(timeout=300)[1] for p in ran]
    assert [p.returncode for p in ran] == [0, 0], said
    record = read_json(tmp_path / "training.json")
    assert record["trained_on"]["processes"] == 2 and record["epochs"] == 2
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2], "one wrote, once"


def test_two_that_know_nothing_of_each_other_do_not_train_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of one process either; when the first is gone, however it went, the next goes on."""
    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)
    arguments = [scene("a", 1), scene("b", 2)], [scene("v", 3)], tiny_settings(max_epochs=1), SIX_CLASSES

    def go() -> None:
        train(*arguments, tmp_path / "run", about=ABOUT, device="cpu")

    with alone_in(tmp_path / "run", "trains in"):
        with pytest.raises(OutputError, match="another run trains in it") as e:
            go()
        assert e.value.path == tmp_path / "run"
        other = started(tmp_path / "run", 1)
        assert "another run trains in it" in other.communicate(timeout=300)[1] and other.returncode
    assert not (tmp_path / "run").exists(), "a lock that was let go leaves nothing"
    first = started(tmp_path / "run", 1000)
    while not (tmp_path / "run" / "state.pt").exists():
        assert first.poll() is None, first.communicate()
    with pytest.raises(FloemapError, match="another run trains"):
        go()
    first.kill()
    first.communicate()
    with pytest.raises(ConfigError, match=r"max_epochs \(1000, now 1\)"):
        go()
