"""The folder of a training: its files, and resuming from them.

model.safetensors   best weights so far, by validation loss; these are evaluated
state.pt            the state after the last epoch, or within one: all that the next step needs
metrics.jsonl       one line for each epoch
training.json       the record: how the training was made and how it ended; written last

Unlike the folders of other stages this one is filled in place, because it must survive a killed run. The training is
finished when training.json exists; until then ``state.pt`` is authoritative. Each file is written atomically (to a
temporary file, synced, renamed), and the other files are brought in line with the state before training resumes.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from floemap.errors import MISSHAPEN, ConfigError, TrainingError
from floemap.files import regular_file
from floemap.results.stage import (
    Stage,
    damaged,
    is_finished,
    made_alike,
    make_folder,
    os_errors,
    parse_json,
    read_json,
    write_whole,
)
from floemap.warned import without_warnings

WEIGHTS, STATE, METRICS, RECORD = "model.safetensors", "state.pt", "metrics.jsonl", "training.json"
#: Raise the revision when the same data and settings give another checkpoint: model, start, crops, loss, optimiser,
#: order, temperature.
STAGE = Stage("floemap train", RECORD, revision=5)


@dataclass
class State:
    """A training between two epochs, or between two steps of one.

    Attributes
    ----------
    inputs, configuration
        Identity of the training. Resuming is refused if either differs.
    history
        One entry for each finished epoch, as in metrics.jsonl.
    weights, best
        State dicts of the model after the last epoch, and after the epoch with the lowest validation loss.
    optimizer, scheduler
        Their state dicts.
    arithmetic
        Device and precision of the last epoch; empty in states of older versions.
    revision
        Revision of the stage that wrote the state. Resuming is refused with another revision.
    within
        Position in the epoch that has begun, see :mod:`floemap.learning.training.within`; empty between two epochs.
        Weights, optimiser and random numbers are then those of that position.
    """

    inputs: dict[str, Any]
    configuration: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    arithmetic: dict[str, str] = field(default_factory=dict)
    revision: int = 0  # states of older versions have none
    within: dict[str, Any] = field(default_factory=dict)

    @property
    def validations(self) -> list[float]:
        """Validation losses so far."""
        return [row["validation_loss"] for row in self.history if row["validation_loss"] is not None]

    @property
    def since_best(self) -> int:
        """Number of validations after the one with the lowest loss (the first one, if several are equal)."""
        losses = self.validations
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    @property
    def best_epoch(self) -> dict[str, Any] | None:
        """The history's entry of the epoch with the lowest validation loss; None before the first validation."""
        validated = [row for row in self.history if row["validation_loss"] is not None]
        return min(validated, key=lambda row: row["validation_loss"], default=None)


def open_folder(
    out: Path, inputs: Mapping[str, Any], configuration: Mapping[str, Any], *, overwrite: bool
) -> tuple[bool, State]:
    """Return whether the training in a folder is finished, and the state to start from, which may be a new one.

    Leftovers of interrupted writes are deleted, and with `overwrite` all files of a training. Files that are not of a
    training stay, even if they have the same names.

    Raises
    ------
    ConfigError
        If it holds a training of other data or settings, or files that belong to no training. They are not changed.
    TrainingError
        If its state cannot be read.
    OutputError
        If the folder cannot be created or written.
    """
    inputs, configuration = _as_json(inputs), _as_json(configuration)
    new = State(inputs, configuration, revision=STAGE.revision)
    wanted = {"inputs": inputs, "configuration": configuration, "revision": STAGE.revision}
    with os_errors(out):
        make_folder(out)
        _clear_leftovers(out)
        if overwrite:
            _refuse_foreign(out)
            # The record first: a kill leaves nothing that looks finished. The state last: it identifies the rest.
            for name in (RECORD, WEIGHTS, METRICS, STATE):
                (out / name).unlink(missing_ok=True)
    if is_finished(out, STAGE, [WEIGHTS, METRICS], inputs=inputs, configuration=configuration):
        return True, State(inputs, configuration, read_metrics(out / METRICS))
    begin_anew = "Give another folder, or --overwrite to start again."
    if (out / RECORD).exists():
        found = read_json(out / RECORD)
        if made_alike(found, STAGE, inputs=inputs, configuration=configuration):
            lost = ", ".join(damaged(out, found, [WEIGHTS, METRICS]))
            if not (out / STATE).exists():
                raise TrainingError(f"has lost {lost}, and has no {STATE} to restore it.", path=out, hint=begin_anew)
            (out / RECORD).unlink()  # no longer finished: the last state restores the other files
        else:
            what = differences({"revision": 0} | found, wanted)
            raise ConfigError(f"holds a finished training with other {what}.", path=out, hint=begin_anew)
    if not (out / STATE).exists():
        if (out / WEIGHTS).exists() or (out / METRICS).exists():
            raise _unknown(out)
        return False, new
    state = load_state(out / STATE)
    found = {"inputs": state.inputs, "configuration": state.configuration, "revision": state.revision}
    if found != wanted:
        what = differences(found, wanted)
        raise ConfigError(f"holds an unfinished training with other {what}.", path=out, hint=begin_anew)
    return False, state


def _refuse_foreign(out: Path) -> None:
    """Refuse to delete files unless a record or a state shows that they belong to a training."""
    there = [name for name in (RECORD, STATE, WEIGHTS, METRICS) if (out / name).exists()]
    if RECORD in there and read_json(out / RECORD).get("made_by") == STAGE.command:
        return
    if STATE in there:
        load_state(out / STATE)
    elif there:
        raise _unknown(out)


def _unknown(out: Path) -> ConfigError:
    there = ", ".join(name for name in (RECORD, WEIGHTS, METRICS) if (out / name).exists())
    return ConfigError(
        f"holds {there}, but no record or state of a training.", path=out, hint="Move it away, or give another folder."
    )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return which values differ, such as "training.batch (4, now 8)", at most four of them."""
    changes = []
    before, now = flat(found), flat(wanted)
    for key in sorted(before.keys() | now.keys()):
        if key.split(".")[0] in wanted and before.get(key) != now.get(key):
            name = key.partition(".")[2] or key
            changes.append(f"{name} ({_short(before.get(key, 'absent'))}, now {_short(now.get(key, 'absent'))})")
    return ", ".join(changes[:4]) + (f" and {len(changes) - 4} more" if len(changes) > 4 else "") or "files"


def _short(value: Any) -> str:
    """Return a value for a message; of a SHA-256, as of the file of a loss, the first eight digits."""
    words = str(value)
    return f"SHA-256 {words[:8]}" if re.fullmatch("[0-9a-f]{64}", words) else words


def save_state(path: Path, state: State) -> None:
    """Write a state atomically; an earlier file stays until the new one is safe on disk.

    Raises
    ------
    OutputError
        If the file cannot be written, as without space or permission.
    """
    held = io.BytesIO()  # torch's own writer reports a full disk without the reason
    torch.save({f.name: getattr(state, f.name) for f in fields(state)}, held)
    write_whole(path, held.getvalue())


def load_state(path: Path) -> State:
    """Read a state. Reading runs no code from the file.

    Raises
    ------
    TrainingError
        If the file is not the state of a training.
    """
    try:
        with without_warnings(Warning):  # torch also warns of odd content; the error is enough
            parts = torch.load(regular_file(path, TrainingError), map_location="cpu", weights_only=True)
        known = {f.name for f in fields(State)}
        if not isinstance(parts, dict) or not {"inputs", "configuration"} <= {*parts} <= known:
            raise ValueError("it holds other parts")
        state = State(**parts)
        _check(state)
        return state
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, *MISSHAPEN) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise TrainingError(
            f"is not a state from which a training can be resumed: {reason}",
            path=path,
            hint="Delete it, or use another folder. --overwrite keeps it, as it may not be of a training.",
        ) from e


def _check(state: State) -> None:
    """Raise ValueError if an attribute of a state has the wrong type."""
    for f in fields(state):
        kind = {"history": list, "revision": int}.get(f.name, dict)
        if not isinstance(getattr(state, f.name), kind):
            raise ValueError(f"its {f.name} is a {type(getattr(state, f.name)).__name__}")
    if not (state.history or state.within) or not all(_is_epoch(row) for row in state.history):
        raise ValueError("its history is not a list of epochs")
    if not all(isinstance(x, Tensor) for part in (state.weights, state.best) for x in part.values()):
        raise ValueError("its weights are not tensors")


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's weights and buffers, in main memory."""
    return {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Turn errors that the contents of a state cause in torch while the block runs into a :class:`TrainingError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, IndexError) as e:
        reason = (str(e) or type(e).__name__).splitlines()[0]
        hint = "Delete it, or use another folder."
        raise TrainingError(f"is not a state of this training: {reason}", path=path, hint=hint) from e


def check_optimizer(adam: torch.optim.Optimizer, own: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if an optimiser has loaded a state of other weights, or with other settings.

    `own` are its parameter groups before loading; only their learning rates may differ.
    """
    for group, before in zip(adam.state_dict()["param_groups"], own, strict=True):
        if not (isinstance(group["lr"], float) and 0 <= group["lr"] < math.inf):
            raise ValueError(f"its learning rate is {group['lr']!r}")
        if {**group, "lr": 0.0} != {**before, "lr": 0.0}:
            raise ValueError("its optimizer has other settings")
    for weight, moments in adam.state.items():
        for name, shape in (("step", ()), ("exp_avg", weight.shape), ("exp_avg_sq", weight.shape)):
            x = moments[name]
            if not isinstance(x, Tensor) or x.shape != shape or not x.is_floating_point():
                raise ValueError(f"{name} of a weight of {tuple(weight.shape)} is {str(x)[:50]!r}")


def check_alike(own: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise ValueError unless two dictionaries have the same keys, and numbers under the same keys."""
    if own.keys() != found.keys():
        raise ValueError(f"its scheduler has {', '.join(map(str, found))}")
    for key, value in own.items():
        if isinstance(value, int | float) != isinstance(found[key], int | float):
            raise ValueError(f"the {key} of its scheduler is {found[key]!r}")


def write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl, one line for each epoch.

    Raises
    ------
    OutputError
        If the file cannot be written, as without space or permission.
    """
    write_whole(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in history).encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl.

    Raises
    ------
    TrainingError
        If the file is not a list of epochs.
    """
    try:
        lines = regular_file(path, TrainingError).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as e:
        raise TrainingError(f"is not a list of metrics: {e}.", path=path) from e
    rows = [parse_json(line, path, TrainingError) for line in lines]
    if not all(_is_epoch(row) for row in rows):
        raise TrainingError("is not a list of metrics: a line is not an epoch.", path=path)
    return rows


def _is_epoch(row: Any) -> bool:
    """Return whether a value is an entry of a history."""
    if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
        return False
    needed = [row.get(key) for key in ("loss", "learning_rate", "seconds")]
    optional = [row.get(key, "absent") for key in ("validation_loss", "weighted_f1", "macro_f1")]
    return all(isinstance(x, int | float) for x in needed) and all(x is None or isinstance(x, float) for x in optional)


def _clear_leftovers(out: Path) -> None:
    """Delete what interrupted writes left; the caller holds the lock of the folder."""
    for name in (WEIGHTS, STATE, METRICS, RECORD):
        for leftover in out.glob(f".{name}.partial-*"):
            with suppress(OSError):
                leftover.unlink()


def _as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content as JSON gives it back: tuples become lists, paths strings."""
    return dict(json.loads(json.dumps(content, default=str)))


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, with dotted names."""
    if isinstance(content, Mapping):
        return {k: v for key, c in content.items() for k, v in flat(c, f"{prefix}.{key}" if prefix else key).items()}
    return {prefix: content}
