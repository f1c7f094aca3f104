"""Any torch.nn.Module as a model: normalised bands, (N, C, H, W), to logits, (N, K, H / s, W / s).

Of several heads, a module may give one tensor with the channels of all, or a table with a tensor for each head by its
name.

The module's stride s, the sizes that it takes and its receptive field are measured by running it
(:mod:`floemap.learning.models.probe`). If the receptive field is limited, whole scenes are predicted in tiles that give
what one pass would give. Otherwise, as with attention, pooling over the image, squeeze and excitation or GroupNorm,
they are predicted in overlapping windows of the size of the training's crops, whose logits are blended: an
approximation, which the records say.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Self

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from floemap.bands import BandSet
from floemap.config import Settings
from floemap.counts import counted
from floemap.errors import FloemapError, ModelError
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.own import CLASSES, TASKS, Origin, arguments, build_network, origin
from floemap.learning.models.precision import at_least_float32
from floemap.learning.models.probe import Measured, find_sizes, measure, noise, tiles_equal
from floemap.learning.settings import CropSettings, ModelSettings
from floemap.learning.targets import Head

logger = logging.getLogger(__name__)

#: Keys under which a module may return its logits beside other tensors.
_KEYS = ("out", "logits")
#: Smallest side of a trial image, pixels.
_SIDE = 64
#: Largest difference between a place's logits in two runs that should be equal, as a share of the largest.
_SAME = 1e-3


class Foreign(SegmentationModel):
    """A module that was written for another purpose.

    Parameters
    ----------
    network
        The module.
    heads
        Heads whose logits it gives, that of classes first.
    measured
        Its stride, alignment and reach.
    window_px
        Side of the windows in which whole scenes are predicted if the reach has no limit.

    Attributes
    ----------
    network
        The module.
    by_head
        Whether the module gives a table with a tensor for each head.
    window_px
        See the parameters; None if the reach is limited, so that tiles are exact.
    contiguous
        Whether the module needs tensors in torch's usual order in memory; otherwise channels come last.
    bf16
        Whether to run under torch's autocast to bfloat16, which leaves the weights as they are.
    """

    class Options(Settings):
        """The module's options, which its signature has checked."""

        model_config = ConfigDict(extra="allow")

    def __init__(
        self,
        settings: ModelSettings,
        heads: Sequence[Head],
        bands: BandSet,
        network: nn.Module,
        measured: Measured,
        window_px: int,
    ) -> None:
        channels = sum(h.channels for h in heads)
        super().__init__(
            settings,
            channels,
            bands,
            stride=measured.stride,
            alignment_px=measured.alignment_px,
            reach_px=measured.reach_px or 0,
            feature_channels=channels,
        )
        self.heads = tuple(heads)
        self.network = network
        self.by_head = False
        self.contiguous = False
        self.bf16 = False
        self.window_px = None if measured.reach_px is not None else _rounded_up(window_px, measured.alignment_px)

    def encode(self, x: Tensor) -> Tensor:
        """Return the module's output, (N, K, H / stride, W / stride)."""
        y = self.normalise(x).to(self.weight_dtype)
        y = y.contiguous() if self.contiguous else y
        with torch.autocast(y.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            return logits_of(self.network, y, self.heads)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move and cast as torch does, but keep the order in memory that the module needs."""
        if self.contiguous:
            kwargs.pop("memory_format", None)
        return super().to(*args, **kwargs) if args or kwargs else self

    def decode(self, features: Tensor) -> Tensor:
        """Return the output unchanged, in float32 or better."""
        return at_least_float32(features)


def logits_of(network: nn.Module, x: Tensor, heads: Sequence[Head]) -> Tensor:
    """Return the logits of a module, (N, K, h, w), the channels of all heads in their order.

    The module gives them as a tensor, or as a value of a table, as torchvision's do, or as a table with a tensor for
    each head.

    Raises
    ------
    ModelError
        If it gives something else, lacks a head or has a further one, or gives heads of other channels or sizes.
    """
    found = network(x)
    if isinstance(found, Mapping):
        if _is_by_head(found, heads):
            return _joined({str(key): value for key, value in found.items()}, x, heads)
        key = next((k for k in _KEYS if k in found), None)
        if key is None:
            raise ModelError(
                f"gives a table with {', '.join(map(str, found))}; its logits must be at {' or '.join(_KEYS)}, or at "
                f"the names of its heads: {', '.join(h.name for h in heads)}."
            )
        found = found[key]
    return _checked(found, x)


def _is_by_head(found: Any, heads: Sequence[Head]) -> bool:
    """Return whether what a module gives is a table by heads: it has one of their names, and no place of all logits."""
    named = isinstance(found, Mapping) and {h.name for h in heads} & found.keys()
    return bool(named) and not (set(_KEYS) - {h.name for h in heads}) & found.keys()


def _joined(found: Mapping[str, Any], x: Tensor, heads: Sequence[Head]) -> Tensor:
    """Return the logits of a table with a tensor for each head."""
    names = [h.name for h in heads]
    missing, extra = [n for n in names if n not in found], [n for n in found if n not in names]
    if missing or extra:
        words = [f"lacks the head {', '.join(missing)}"] if missing else []
        words += [f"gives the head {', '.join(extra)}, which the configuration does not have"] if extra else []
        raise ModelError(
            f"{' and '.join(words)}: its heads are {', '.join(names)}.",
            hint="The heads are those of the tables [tasks.NAME], and ice_type if none of them has the target class.",
        )
    parts = []
    for head in heads:
        try:
            part = _checked(found[head.name], x)
        except ModelError as e:
            raise ModelError(f"{e.message.removesuffix('.')}; this is of its head {head.name}.", hint=e.hint) from e
        if part.shape[1] != head.channels:
            raise ModelError(
                f"gives {part.shape[1]} channels for its head {head.name}, which needs {head.channels}.",
                hint=f"The class gets the channels of each head if it has a parameter {TASKS}.",
            )
        parts.append(part)
    sizes = {(len(p), *p.shape[2:]) for p in parts}
    if len(sizes) > 1:
        shown = ", ".join(f"{h.name} {tuple(p.shape)}" for h, p in zip(heads, parts, strict=True))
        raise ModelError(f"gives heads of different sizes: {shown}.")
    return torch.cat(parts, dim=1)


def _checked(found: Any, x: Tensor) -> Tensor:
    """Return logits; refuse what is not a floating-point tensor of four axes."""
    if not isinstance(found, Tensor):
        raise ModelError(f"gives a {type(found).__name__}; a tensor of logits (N, classes, rows, columns) is needed.")
    if found.ndim != 4:
        raise ModelError(
            f"gives a tensor of {tuple(found.shape)} for an input of {tuple(x.shape)}; logits (N, classes, rows, "
            "columns) are needed."
        )
    if not found.is_floating_point():
        raise ModelError(f"gives a tensor of {found.dtype}; logits must be floating-point numbers.")
    return found


def build_own(
    settings: ModelSettings,
    heads: Sequence[Head],
    bands: BandSet,
    crop_px: int,
    described: Mapping[str, Any] | None,
    *,
    with_reach: bool = True,
) -> SegmentationModel:
    """Build a model that is named by import string; see :func:`floemap.learning.models.registry.build_model`.

    Raises
    ------
    ConfigError
        If it cannot be built.
    ModelError
        If it fails, reads other bands, or what it gives is not usable.
    """
    came_from = origin(settings.name)
    network = build_network(settings, arguments(settings, bands, heads, trained=described is not None))
    try:
        if isinstance(network, SegmentationModel):
            model = network
            if model.bands != bands:
                raise ModelError(
                    f"reads the bands {', '.join(model.bands.names)}, not {', '.join(bands.names)}.",
                    hint="Give its __init__ a parameter bands, and pass it on to SegmentationModel.__init__.",
                )
            if model.channels == sum(h.channels for h in heads):
                model.heads = tuple(heads)
            check_model_runs(model)
            if with_reach:
                _check_margin(model)
        else:
            known = _known(described, came_from)
            model = _adapted(settings, heads, bands, network, crop_px, described, known, with_reach=with_reach)
        _freeze_unused(model)
    except ModelError as e:
        raise ModelError(f"the model {settings.name} {e.message}", hint=e.hint) from e
    model.described = _description(model, came_from, crop_px)
    return model.train()


def _adapted(
    settings: ModelSettings,
    heads: Sequence[Head],
    bands: BandSet,
    network: nn.Module,
    crop_px: int,
    described: Mapping[str, Any] | None,
    known: Measured | None,
    *,
    with_reach: bool,
) -> Foreign:
    """Return a module as a model, measured unless a checkpoint's header says what was measured."""
    run = partial(logits_of, heads=heads)
    measured = known
    if measured is None:
        stride, multiple = find_sizes(network, run, bands.channels, crop_px)
        if described is None and multiple > crop_px:
            raise ModelError(
                f"needs images whose sides are multiples of {multiple} px, but the crops have {crop_px} px.",
                hint=f"Set crops.size_px = {multiple}.",
            )
        measured = Measured(stride, multiple, None)
    model = Foreign(settings, heads, bands, network, measured, crop_px)
    check_model_runs(model)
    if known is None and with_reach:
        measured = measure(network, run, bands.channels, stride, multiple)
        model = Foreign(settings, heads, bands, network, measured, crop_px)
    model.contiguous = not _takes_channels_last(model)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model.by_head = _is_by_head(network.eval()(_trial_of(bands.channels, measured.alignment_px, 2)), heads)
    return model


def _known(described: Mapping[str, Any] | None, came_from: Origin) -> Measured | None:
    """Return what a checkpoint's header says of a model, if it was written for the same source."""
    if described is None or any(described.get(k) != getattr(came_from, k) for k in ("source", "package")):
        return None
    try:
        stride, alignment = int(described["stride"]), int(described["alignment_px"])
        reach = None if described["reach_px"] is None else int(described["reach_px"])
        sound = 1 <= stride <= alignment and alignment % stride == 0 and (reach or 0) >= 0
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return Measured(stride, alignment, reach) if sound else None


def _description(model: SegmentationModel, came_from: Origin, crop_px: int) -> dict[str, Any]:
    """Return what the header of a checkpoint says of a model of a user's own."""
    window = getattr(model, "window_px", None)
    return {
        "options": dict(model.settings.options),
        "source": came_from.source,
        "package": came_from.package,
        "stride": model.stride,
        "alignment_px": model.alignment_px,
        "reach_px": model.margin_px if window is None else None,
        "crop_px": crop_px,
        "whole_scenes": "exact tiles" if window is None else f"approximate, blended windows of {window} px",
    }


def warn_of_reach(model: SegmentationModel, crops: CropSettings) -> None:
    """Warn if a receptive field reaches farther than crops: what it sees beyond them is never seen in training."""
    if model.margin_px > crops.side_px:
        logger.warning(
            "the receptive field of %s reaches %d px beyond a cell, farther than crops of %d px: in whole scenes it "
            "will see more than in training. Raise crops.size_px or crops.context_px",
            model.name,
            model.margin_px,
            crops.side_px,
        )


def check_model_runs(model: SegmentationModel) -> None:
    """Run a model in evaluation mode, and check what it gives.

    Raises
    ------
    ModelError
        If it fails; if its output has a wrong shape, is not finite, differs between two runs, or depends on what else
        is in the batch; or if it has no weights to train.
    """
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("has no weights to train.")
    x = _trial(model, 2)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        first, again, alone = (_run(model.eval(), v) for v in (x, x, x[:1]))
    if first.shape[1] != model.channels:
        needed = f"the legend has {model.classes} classes"
        if len(model.heads) > 1:
            each = ", ".join(f"{h.name}: {h.channels}" for h in model.heads)
            needed = f"its heads ({each}) need {model.channels}, or a table with a tensor for each"
        raise ModelError(
            f"gives {first.shape[1]} channels; {needed}.",
            hint="The class gets the number of channels if a parameter has one of the names "
            f"{', '.join(CLASSES)}, and those of each head by name if it has a parameter {TASKS}.",
        )
    if (len(first), *first.shape[2:]) != (len(x), *x.shape[2:]):
        raise ModelError(f"gives logits of {tuple(first.shape)} for an input of {tuple(x.shape)}.")
    if not first.isfinite().all():
        raise ModelError("gives NaN or infinity for finite values.")
    limit = _SAME * first.abs().max()
    if (again - first).abs().max() > limit:
        raise ModelError("gives different logits for the same values, although it is in evaluation mode.")
    if (alone[0] - first[0]).abs().max() > limit:
        raise ModelError("gives other logits for an image alone than in a batch, although it is in evaluation mode.")


def _check_margin(model: SegmentationModel) -> None:
    """Check that the features do not depend on more than the class says of itself.

    Raises
    ------
    ModelError
        If a tile with the class's margin has other features than the same place of a larger image.
    """
    reach, stride = model.margin_px, model.stride
    if not tiles_equal(model, lambda net, x: net.encode(x), len(model.mean), model.alignment_px, stride, reach):  # type: ignore[operator]
        raise ModelError(
            f"says that it sees at most {reach} px beyond a cell, in tiles whose corners are multiples of "
            f"{model.alignment_px} px, but its features depend on more.",
            hint="Correct reach_px or alignment_px. Of a class derived from torch.nn.Module, floemap measures them.",
        )


def _trial(model: SegmentationModel, count: int) -> Tensor:
    """Return random values for a run: the smallest multiple of the alignment that is not tiny."""
    return _trial_of(len(model.mean), model.alignment_px, count)


def _trial_of(bands: int, alignment_px: int, count: int) -> Tensor:
    side = _rounded_up(_SIDE, alignment_px)
    return torch.cat([noise(bands, side, side, seed) for seed in range(count)])


def _run(model: SegmentationModel, x: Tensor) -> Tensor:
    try:
        return model(x)  # type: ignore[no-any-return]
    except FloemapError:
        raise
    except Exception as e:  # whatever the module raises
        raise ModelError(f"fails for an input of {tuple(x.shape)}: {type(e).__name__}: {_first_words(e)}") from e


def _trained_once(model: SegmentationModel, memory_format: torch.memory_format) -> dict[str, Tensor | None]:
    """Return the gradients of all weights after one step on a copy in training mode."""
    try:
        trial = copy.deepcopy(model).train().to(memory_format=memory_format)  # type: ignore[call-overload]
    except Exception as e:  # whatever the module raises
        raise ModelError(f"cannot be copied: {type(e).__name__}: {_first_words(e)}") from e
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        x = _trial(model, 2).contiguous(memory_format=memory_format)
        logits = _run(trial, x)
        if not logits.requires_grad:
            raise ModelError("gives logits that do not depend on its weights: training could not change them.")
        try:
            logits.square().mean().backward()  # type: ignore[no-untyped-call]
        except Exception as e:  # whatever the module raises
            raise ModelError(f"fails in the backward pass: {type(e).__name__}: {_first_words(e)}") from e
    return {name: p.grad for name, p in trial.named_parameters()}


def _takes_channels_last(model: SegmentationModel) -> bool:
    """Return whether a module runs with its channels last in memory, which is faster; some reshape tensors in place."""
    try:
        _trained_once(model, torch.channels_last)
    except ModelError:
        return False
    return True


def _freeze_unused(model: SegmentationModel) -> None:
    """Freeze weights that the logits do not depend on: several processes would wait for their gradients."""
    used = _trained_once(model, torch.contiguous_format)
    unused = [name for name, gradient in used.items() if gradient is None]
    for name in unused:
        model.get_parameter(name).requires_grad_(False)
    if unused:
        weights = counted(len(unused), "weight")
        logger.info("%s of %s without effect on its logits: not trained", weights, model.name)


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _first_words(e: Exception) -> str:
    return " ".join(str(e).split())[:300]
