"""Starting a training from a checkpoint (``start_from``): what it must have in common, and what it may not have.

Heads and bands may differ. A head or band that the checkpoint lacks is added, one that is not wanted is left out; both
are matched by name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from torch import Tensor

from floemap.bands import BandSet, assumed_band
from floemap.errors import ModelError
from floemap.learning.models.base import SegmentationModel, load_tensors
from floemap.learning.models.checkpoint import Checkpoint, check_fits, load_checkpoint
from floemap.learning.models.checkpoint_header import find_bands, read_about
from floemap.learning.models.foreign import Foreign
from floemap.learning.models.own import is_own
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import Head, slices_of
from floemap.legend import Legend
from floemap.sentinel1.encoding import PRODUCT_BANDS

logger = logging.getLogger(__name__)

#: Gives means and standard deviations of the bands in the training parts, (B,) each.
Statistics = Callable[[], tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Begun:
    """In what a model differs from the checkpoint that it started from, by name."""

    new_heads: tuple[str, ...] = ()
    new_bands: tuple[str, ...] = ()
    left_out_bands: tuple[str, ...] = ()

    def about(self) -> dict[str, list[str]]:
        """Return what a checkpoint's header says of it: nothing of what is empty."""
        return {key: list(names) for key, names in vars(self).items() if names}


def read_start(
    settings: ModelSettings, legend: Legend, resolution_m: float, bands: BandSet = PRODUCT_BANDS
) -> Checkpoint | None:
    """Return the checkpoint that a training starts from (``start_from``), or None if it starts from none.

    Raises
    ------
    ModelError
        If it cannot be read, is another model than `settings` ask for, was trained on another pixel size or other
        classes, or on bands to which its weights cannot be matched.
    """
    if settings.start_from is None:
        return None
    start = load_checkpoint(settings.start_from)
    _check_bands(start, bands)
    check_fits(start, bands=start.bands, resolution_m=resolution_m, legend=legend)
    built = start.model.settings
    asked_for = settings if settings.rates else settings.model_copy(update={"rates": built.rates})  # else the start's
    own, asked = _in_words(built), _in_words(asked_for)
    if own != asked:
        raise ModelError(
            f"is the model {own}; the configuration asks for {asked}.",
            path=start.path,
            hint="Give [model] the same values, or start from another file.",
        )
    return start


def check_start(
    settings: ModelSettings, legend: Legend, bands: Sequence[str], resolution_m: float | None = None
) -> None:
    """Check the checkpoint that a training will start from, before its scenes are prepared.

    Parameters
    ----------
    settings, legend
        As of :func:`read_start`.
    bands
        Names of the bands. Units and gaps of layers are not known yet, and count as those of the checkpoint.
    resolution_m
        Pixel size of the scenes, None if it is not known yet.

    Raises
    ------
    ModelError
        As :func:`read_start` does.
    """
    if settings.start_from is None:
        return
    about = read_about(settings.start_from)
    known = {b.name: b for b in (*find_bands(about, settings.start_from), *PRODUCT_BANDS)}
    assumed = BandSet(tuple(known.get(name) or assumed_band(name) for name in bands))
    read_start(settings, legend, float(about["resolution_m"]) if resolution_m is None else resolution_m, assumed)


def _check_bands(start: Checkpoint, bands: BandSet) -> None:
    """Refuse bands to which the weights of a checkpoint cannot be matched by name.

    Raises
    ------
    ModelError
        If a band has another unit, or the bands differ and it is not known which weights read them.
    """
    learnt = start.bands
    for band in bands:
        if band.name in learnt.names and (unit := learnt[band.name].unit) != band.unit:
            raise ModelError(
                f"reads the band {band.name} in {unit}; the scenes have it in {band.unit}.",
                path=start.path,
                hint=f"Make the layer again with `floemap layer from-raster PRODUCT FILE --unit {quote(unit)}`.",
            )
    known = start.model.band_weights or learnt.channels != bands.channels
    if _channels(learnt) != _channels(bands) and (not set(learnt.names) & set(bands.names) or not known):
        raise _other_bands(start, bands)


def _other_bands(start: Checkpoint, bands: BandSet) -> ModelError:
    """Return the error for bands that do not fit, with what differs and what to do."""
    learnt = start.bands
    lists = {
        "new": [n for n in bands.names if n not in learnt.names],
        "left out": [n for n in learnt.names if n not in bands.names],
    }
    words = "; ".join(f"{what}: {', '.join(names)}" for what, names in lists.items() if names)
    shared = len(lists["left out"]) < len(learnt)
    why = f"which weights of the model {start.model.name} read them is not known" if shared else "no band is the same"
    hint = f"Set [data] bands to {json.dumps(learnt.names)}, or leave out start_from."
    if shared:
        hint += " A class of your own that is derived from SegmentationModel names these weights in band_weights."
    return ModelError(
        f"was trained on the bands {', '.join(learnt.names)}; the configuration asks for {', '.join(bands.names)} "
        f"({words or 'in another order, or with other gaps'}), and {why}.",
        path=start.path,
        hint=hint,
    )


def begin_from(model: SegmentationModel, start: Checkpoint, statistics: Statistics) -> Begun:
    """Load the weights and the normalisation of a checkpoint into a model of the same kind; return what is new.

    The heads may differ. Heads that the checkpoint has as well begin with its weights, that of classes whatever it is
    called; the others keep the random ones of the model. The bands may differ: weights of a band that the checkpoint
    lacks begin at 0, so that the model first gives what the checkpoint gives; a band that is left out counts as its
    mean. Both are logged.

    Parameters
    ----------
    model
        The model, with random weights.
    start
        The checkpoint.
    statistics
        Gives the normalisation of bands that the checkpoint lacks.

    Raises
    ------
    ModelError
        If a tensor has another shape for another reason than other heads or bands.
    """
    before = dict(zip((_same_head(h) for h in start.model.heads), slices_of(start.model.heads), strict=True))
    now = dict(zip((_same_head(h) for h in model.heads), slices_of(model.heads), strict=True))
    weights = dict(start.model.state_dict())
    if list(before) != list(now):
        weights = _of_heads(weights, model, before, now)
    if _channels(start.bands) != _channels(model.bands):
        weights = _of_bands(weights, model, start, statistics)
    try:
        load_tensors(model, weights)
    except ValueError as e:
        raise ModelError(f"does not fit a model with other heads or bands: {e}.", path=start.path) from e
    begun = Begun(
        tuple(h.name for h in model.heads if _same_head(h) not in before),
        tuple(n for n in model.bands.names if n not in start.bands.names),
        tuple(n for n in start.bands.names if n not in model.bands.names),
    )
    left = [h.name for h in start.model.heads if _same_head(h) not in now]
    if begun.new_heads:
        logger.warning("%s has no head %s: its weights begin at random", start.path, ", ".join(begun.new_heads))
    if left:
        logger.warning("the head %s of %s is left out", ", ".join(left), start.path)
    if begun.new_bands:
        logger.warning("%s was trained without %s: its weights begin at 0", start.path, ", ".join(begun.new_bands))
    if begun.left_out_bands:
        words = "%s was trained with %s too, which is left out: the model begins as if it were at its mean everywhere"
        logger.warning(words, start.path, ", ".join(begun.left_out_bands))
    return begun


def _of_heads(
    weights: Mapping[str, Tensor],
    model: SegmentationModel,
    before: Mapping[tuple[str, str], slice],
    now: Mapping[tuple[str, str], slice],
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for a model with other heads, given the channels of each head in both."""
    own = model.state_dict()
    if isinstance(model, Foreign) and model.by_head:  # each head has separate layers, with separate names
        kept = {name: x for name, x in weights.items() if name in own or before.keys() <= now.keys()}
        return ({} if now.keys() <= before.keys() else own) | kept
    found, channels = dict(weights), [max(s.stop for s in heads.values()) for heads in (before, now)]
    for name, mine in own.items():
        given = weights.get(name, mine)
        same = mine.shape == given.shape and channels[0] != channels[1]
        if not same and [*given.shape[:1], *mine.shape[:1]] == channels:  # the last layer
            found[name] = mine.clone()
            for head in before.keys() & now.keys():
                found[name][now[head]] = given[before[head]]
    return found


def _of_bands(
    weights: Mapping[str, Tensor], model: SegmentationModel, start: Checkpoint, statistics: Statistics
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint for a model with other bands: columns of the weights that read them by name.

    Raises
    ------
    ModelError
        If it is not known which weights read the bands.
    """
    learnt, wanted = _channels(start.bands), _channels(model.bands)
    own = model.state_dict()
    names = model.band_weights or [
        name
        for name, given in weights.items()
        if name in own and given.shape[1:2] == (len(learnt),) and own[name].shape[1:2] == (len(wanted),)
    ]
    if not names:
        raise _other_bands(start, model.bands)
    found = dict(weights)
    for name in names:
        given = weights[name]
        columns = [given[:, learnt.index(c)] if c in learnt else given.new_zeros(given[:, 0].shape) for c in wanted]
        found[name] = given.new_zeros(len(given), len(wanted), *given.shape[2:])
        for i, column in enumerate(columns):
            found[name][:, i] = column
    for name, values in zip(("mean", "std"), statistics(), strict=True):
        of_band = dict(zip(start.bands.names, weights[name].tolist(), strict=True))
        each = [of_band.get(band, value) for band, value in zip(model.bands.names, values, strict=True)]
        found[name] = weights[name].new_tensor(each)
    return found


def _channels(bands: BandSet) -> list[tuple[str, bool]]:
    """Return the band of each channel of a network's input, and whether it is the flag of its gaps."""
    return [(name, False) for name in bands.names] + [(bands.names[i], True) for i in bands.flagged]


def _same_head(head: Head) -> tuple[str, str]:
    """Return what identifies a head in another model."""
    return (head.target, "" if head.kind == "class" else head.name)


def _in_words(model: ModelSettings) -> str:
    if is_own(model.name):
        return f"{model.name} with the options {model.options}"
    rates = f" and rates {', '.join(map(str, model.rates))}" if model.rates else ""
    return f"{model.name} with output_stride {model.output_stride}{rates}"
