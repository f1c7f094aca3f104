"""Going on from a finished model, on other scenes: training starts from all of its weights, and its normalisation.

So a service's model learns from charts that analysts have corrected, without learning again what it knows. The loss,
the optimiser and the schedule begin anew. The normalisation stays the model's, for its weights were learnt with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from floemap.errors import ConfigError, ModelError
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.checkpoint import Checkpoint, check_fits, load_checkpoint
from floemap.learning.models.checkpoint_header import learnt_from
from floemap.learning.settings import ModelSettings
from floemap.legend import Legend
from floemap.results.stage import sha256
from floemap.sentinel1.encoding import BAND_NAMES


def read_start(settings: ModelSettings, legend: Legend, resolution_m: float) -> Checkpoint | None:
    """Return the model that a training starts from, if it starts from one.

    Raises
    ------
    ModelError
        If it cannot be read, is another model than `settings` ask for, or learnt from pixels of another size or with
        other classes.
    """
    if settings.start_from is None:
        return None
    start = load_checkpoint(settings.start_from)
    check_fits(start, bands=BAND_NAMES, resolution_m=resolution_m, legend=legend)
    own, asked = _told(start.model.settings), _told(settings)
    if own != asked:
        raise ModelError(
            f"is the model {own}; the configuration asks for {asked}.",
            path=start.path,
            hint="Give [model] the same values, or start from another file.",
        )
    return start


def begin_from(start: Checkpoint, model: SegmentationModel) -> None:
    """Give a model that was built by the same settings the weights and the normalisation of `start`."""
    model.load_state_dict(start.model.state_dict())


def about_start(start: Checkpoint) -> dict[str, Any]:
    """Return what a checkpoint says of the model that it was started from."""
    kept = {key: start.about[key] for key in ("created", "simulated", "started_from") if key in start.about}
    file = {"file": start.path.name, "sha256": sha256(start.path), "learnt_from": learnt_from(start.about)}
    return file | kept | {"products": sorted(products_behind(start.about))}


def products_behind(about: Mapping[str, Any]) -> set[str]:
    """Return the names of all products that a model learnt from, or was validated on, and those before it."""
    own = {
        str(entry["product"]) for entry in about.get("data", ()) if isinstance(entry, Mapping) and "product" in entry
    }
    return own | set(map(str, about.get("started_from", {}).get("products", ())))


def refuse_known(start: Checkpoint, tests: Iterable[str]) -> None:
    """Refuse to test on products that the start has learnt from: the scores would tell nothing.

    Raises
    ------
    ConfigError
        Naming them.
    """
    known = sorted(products_behind(start.about) & set(tests))
    if known:
        raise ConfigError(
            f"has learnt from {', '.join(known)}, on which the model that starts from it is to be tested.",
            path=start.path,
            hint="Test on other scenes, or start from another model.",
        )


def _told(model: ModelSettings) -> str:
    rates = f" and rates {', '.join(map(str, model.rates))}" if model.rates else ""
    return f"{model.name} with output_stride {model.output_stride}{rates}"
