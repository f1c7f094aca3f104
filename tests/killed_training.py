"""Trains, is killed at chosen moments, goes on; run as a program by test_45_resume.py.

    python tests/killed_training.py FOLDER

Everything is imported once; then each run is a forked process, which is really killed. Prints JSON: for each moment how
the killed run ended, what it left, and whether what came out in the end is what an undisturbed run gives.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from tiny_model import ABOUT, WITH_TINY, scene, written_file

import floemap.learning.models.registry as models_module
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.settings import CropSettings, LearningSettings, ModelSettings, TrainingSettings
from floemap.learning.training import epochs, record
from floemap.learning.training.loop import train
from floemap.learning.training.state import load_state
from floemap.learning.training.validation import Validation
from floemap.legend import SIX_CLASSES
from floemap.stopping import TRY_AGAIN, Stopped, stopped_by_signals

Trap = Callable[[], None]

#: Everything that could differ after a kill is in play: dropout, turns, places, a falling learning rate, clipping.
SETTINGS = LearningSettings(
    model=ModelSettings(name="tiny", dropout=0.2),
    crops=CropSettings(size_px=32, per_scene=4, flips=True, validation_per_scene=2),
    training=TrainingSettings(
        batch=4,
        learning_rate=1e-3,
        max_epochs=4,
        patience=1,
        clip_norm=1.0,
        precision="auto",
        validation="crops",
    ),
)


#: The same for a real model, whose states are large: killed less often.
REAL = SETTINGS.model_copy(update={"model": ModelSettings(name="resnet18_aspp", dropout=0.2)})


def go(out: Path, told: Callable[[str], None] = lambda what: None, settings: LearningSettings | None = None) -> None:
    """Train. All epochs after the first validate badly: patience and the best weights must outlive a kill."""
    real = vars(epochs)["validate"]
    epoch = [0]

    def heard(done: float, total: float, what: str) -> None:
        if what.startswith("epoch"):
            epoch[0] = int(what.split()[1].rstrip(":"))
        told(what)

    def validate(*args: Any, **kwargs: Any) -> Validation:
        found = real(*args, **kwargs)
        return dataclasses.replace(found, loss=found.loss + 10 * (epoch[0] > 1))

    vars(epochs)["validate"] = validate
    train(
        [scene("a", 1), scene("b", 2)],
        [scene("v", 3)],
        settings or (REAL if out.name.startswith("real") else SETTINGS),
        SIX_CLASSES,
        out,
        about=ABOUT,
        device="cpu",
        progress=heard,
    )


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("a killed process goes on")


def in_child(work: Callable[[], None]) -> int:
    """Do it in a forked process, and return how that ended: an exit code, or minus a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except Stopped:
            os._exit(TRY_AGAIN)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_write(name: str, number: int = 1, *, torn: bool = False) -> Trap:
    """Die when a file is written for the n-th time; torn: with half of it on the disk."""

    def set_trap() -> None:
        real = os.fsync
        left = [number]

        def fsync(file: int) -> None:
            left[0] -= written_file(file) == name
            if left[0] == 0:
                if torn:
                    os.ftruncate(file, os.fstat(file).st_size // 2)
                die()
            real(file)

        vars(os)["fsync"] = fsync

    return set_trap


def at_record() -> None:
    vars(record)["write_json"] = lambda *_: die()


def in_validation() -> None:
    real = vars(epochs)["validate"]
    left = [3]

    def validate(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        return die() if left[0] == 0 else real(*args, **kwargs)

    vars(epochs)["validate"] = validate


def in_step(signal_number: int) -> Callable[[Path], None]:
    """Run, and get a signal in the middle of the third epoch."""

    def run(out: Path) -> None:
        def told(what: str) -> None:
            if what.startswith("epoch 3") and ": loss" in what:
                os.kill(os.getpid(), signal_number)

        go(out, told)

    return run


def within_an_epoch(number: int, epoch: int, how: str = "state saved after every step") -> Callable[[Path], None]:
    """Run, and get a signal after the first step of an epoch, of which the state is saved."""
    every = 0.0 if "every" in how else None
    training = SETTINGS.training.model_copy(update={"save_every_minutes": every})
    settings = SETTINGS.model_copy(update={"training": training})

    def run(out: Path) -> None:
        seen = [0]

        def told(what: str) -> None:
            seen[0] += what.startswith(f"epoch {epoch} ") and ": loss" in what
            if seen[0] == (2 if number == signal.SIGKILL else 1):  # the state after the first step is on the disk
                os.kill(os.getpid(), number)

        with stopped_by_signals():
            go(out, told, settings)

    return run


def trapped(trap: Trap) -> Callable[[Path], None]:
    def run(out: Path) -> None:
        trap()
        go(out)

    return run


MOMENTS: dict[str, Callable[[Path], None]] = {
    "in a step": in_step(signal.SIGKILL),
    "Ctrl-C in a step": in_step(signal.SIGINT),
    "within the first epoch": within_an_epoch(signal.SIGKILL, 1),
    "within a later epoch": within_an_epoch(signal.SIGKILL, 3),
    "SIGTERM within an epoch": within_an_epoch(signal.SIGTERM, 3, "only then"),
    "SIGUSR1 within the first epoch": within_an_epoch(signal.SIGUSR1, 1, "only then"),
    "in a validation": trapped(in_validation),
    "in the first writing of the state": trapped(at_write("state.pt", torn=True)),
    "in a later writing of the state": trapped(at_write("state.pt", 3, torn=True)),
    "between state and checkpoint": trapped(at_write("model.safetensors")),
    "between checkpoint and metrics": trapped(at_write("metrics.jsonl", torn=True)),
    "before the record": trapped(at_record),
}


def outcome(out: Path) -> dict[str, Any]:
    """What a finished folder holds, but for times."""
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for row in history:
        del row["seconds"], row["crops_per_s"]
    state = load_state(out / "state.pt")
    best = load_checkpoint(out / "model.safetensors").model.state_dict()
    adam = {f"{i}.{k}": x for i, s in state.optimizer["state"].items() for k, x in s.items()}
    return {
        "history": history,
        "weights": {k: x.clone() for part in (best, state.weights, adam) for k, x in part.items()},
        "files": sorted(p.name for p in out.iterdir()),
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return (
        a["history"] == b["history"]
        and a["weights"].keys() == b["weights"].keys()
        and all(torch.equal(x, b["weights"][k]) for k, x in a["weights"].items())
    )


def killed_from_outside(out: Path) -> list[int]:
    """Kill twice, whatever the run is doing, once it has something to go on with."""
    ends = []
    for wait_s in (0.3, 0.1):
        pid = os.fork()
        if pid == 0:
            go(out)
            os._exit(0)
        began = time.monotonic()
        while not (out / "state.pt").exists() and time.monotonic() < began + 120:
            time.sleep(0.01)
        time.sleep(wait_s)
        os.kill(pid, signal.SIGKILL)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return ends


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # forked processes have no others
    models_module.MODELS = WITH_TINY
    found: dict[str, Any] = {}
    wholes = {}
    for name in ("whole", "real_whole"):
        found[name] = in_child(lambda name=name: go(folder / name))  # type: ignore[misc]
        wholes[name] = outcome(folder / name)
    found["files"] = wholes["whole"]["files"]
    found["rates"] = [row["learning_rate"] for row in wholes["whole"]["history"]]
    for moment, run in MOMENTS.items():
        out = folder / moment.replace(" ", "_")
        ended = in_child(lambda run=run, out=out: run(out))  # type: ignore[misc]
        left = sorted(p.name for p in out.iterdir())
        within = len(load_state(out / "state.pt").within.get("losses", [])) if "state.pt" in left else 0
        found[moment] = {"ended": ended, "left": left, "steps": within} | go_on(out, wholes["whole"])
    out = folder / "real_anywhere"
    found["anywhere"] = {"ended": killed_from_outside(out)} | go_on(out, wholes["real_whole"])
    print(json.dumps(found))


def go_on(out: Path, whole: dict[str, Any]) -> dict[str, Any]:
    """Start the training again, and compare what comes out."""
    ended = in_child(lambda: go(out))
    after = outcome(out)
    return {"went on": ended, "same": same(whole, after), "files": after["files"]}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
    main(Path(sys.argv[1]))
