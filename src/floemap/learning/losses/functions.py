"""What training minimises: cross-entropy, three kinds of Dice, focal loss. Arrays in, a number out.

Each loss is a ratio of sums over pixels. So it comes in two steps: sums of a batch, which add up over crops, tiles and
processes, and the value of such sums. Axes: logits (N, K, H, W), labels (N, H, W) with class ids from 0 to K - 1 and
:data:`floemap.legend.IGNORE` where there is none; those pixels count nowhere. Where none has a class the value is 0
and so is its gradient. Arithmetic is in float32 even where logits are half precision, in float64 where they are.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from floemap.errors import ConfigError, TrainingError, known_names
from floemap.learning.losses.class_weights import class_weights
from floemap.learning.models.base import at_least_float32
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE

__all__ = [
    "LOSSES",
    "CrossEntropy",
    "Focal",
    "GeneralizedDice",
    "Loss",
    "MacroDice",
    "PooledDice",
    "check_labels",
    "class_weights",
    "make_loss",
    "ratio",
    "register_loss",
]


def check_labels(labels: Tensor | NDArray[np.uint8], classes: int) -> None:
    """Refuse labels with an id that is neither of the classes nor IGNORE, of any shape.

    Raises
    ------
    TrainingError
        If there is one, saying which.
    """
    wrong = labels[(labels >= classes) & (labels != IGNORE)]
    if len(wrong):
        raise TrainingError(
            f"{len(wrong)} pixels have labels up to {int(wrong.max())}; the {classes} classes end at {classes - 1}.",
            hint="Were the labels made with another legend?",
        )


def unreduced(sums: Tensor) -> Tensor:
    """Return the sums as they are: those of one process are all."""
    return sums


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, and give 0, with a gradient of 0, where the denominator is 0."""
    some = denominator != 0  # not-a-number must stay one: training stops at it
    return torch.where(some, numerator / torch.where(some, denominator, 1), 0)


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Count the pixels of each class, (K,) int64, without waiting for a GPU."""
    return torch.stack([(labels == k).sum() for k in range(classes)])


class Loss(ABC):
    """A loss for K classes.

    Parameters
    ----------
    classes
        K.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what the value is made of, summed over pixels: 1-D, float32 or float64, differentiable.

        On the CPU, labels outside of the classes are refused. On a GPU that would cost waiting for it: there check
        them when they are loaded, with :func:`check_labels`.

        Raises
        ------
        TrainingError
            If shapes do not fit, or a label is no class.
        """
        shape = (logits.shape[0], self.classes, *logits.shape[2:])
        if logits.ndim != 4 or logits.shape != shape or labels.shape != (shape[0], *shape[2:]):
            raise TrainingError(
                f"logits of {tuple(logits.shape)} and labels of {tuple(labels.shape)} do not fit "
                f"{self.classes} classes: (N, {self.classes}, H, W) and (N, H, W) are needed."
            )
        if labels.device.type == "cpu":
            check_labels(labels, self.classes)
        return self._sums(at_least_float32(logits), labels)

    @abstractmethod
    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        """As :meth:`sums`, of checked input in float32 or float64."""

    @abstractmethod
    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, a scalar, of sums that may have been added up over batches and processes."""

    def __call__(self, logits: Tensor, labels: Tensor, reduce: Callable[[Tensor], Tensor] = unreduced) -> Tensor:
        """Return the loss of a batch, a scalar.

        Parameters
        ----------
        logits, labels
            (N, K, H, W) and (N, H, W).
        reduce
            Applied to the sums before they are divided: where a batch is shared among processes, the sum over them.
        """
        return self.value(reduce(self.sums(logits, labels)))


class CrossEntropy(Loss):
    """Mean of -log p of the true class, weighted by class: sum of w nll / sum of w, as torch's.

    Its sums: weighted log-likelihood, weights.

    Parameters
    ----------
    weights
        Of the classes, (K,); None for equal ones.
    """

    def __init__(self, classes: int, weights: Tensor | None = None) -> None:
        super().__init__(classes)
        self.weights = weights

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits)
        nll = functional.cross_entropy(logits, labels.long(), weights, ignore_index=IGNORE, reduction="sum")
        counts = class_counts(labels, self.classes)
        total = counts.sum().to(nll) if weights is None else (counts * weights).sum()
        return torch.stack([nll, total])

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean."""
        return ratio(sums[0], sums[1])


class Focal(Loss):
    """Mean over pixels of -alpha (1 - p)^gamma log p, p being the softmax probability of the true class.

    With gamma 0 and alpha 1 it is the cross-entropy without class weights. One alpha for all classes only scales it.
    Class weights multiply alpha; the divisor stays the number of pixels.

    Its sums: the terms above, pixels.

    Reference: T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017; with a softmax, as classes here
    exclude each other, where they have a sigmoid.

    Parameters
    ----------
    gamma
        At least 0.
    alpha
        (K,), class weights included.
    """

    def __init__(self, classes: int, gamma: float, alpha: Tensor) -> None:
        super().__init__(classes)
        self.gamma = gamma
        self.alpha = alpha

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        likelihood = functional.log_softmax(logits, dim=1)
        nll = functional.nll_loss(likelihood, labels.long(), ignore_index=IGNORE, reduction="none")  # (N, H, W)
        # 1 - p without loss of digits. Not quite 0 either: there a power below 1 has an infinite slope.
        rest = (-torch.expm1(-nll)).clamp(min=1e-12)
        terms = rest**self.gamma * nll
        alpha = self.alpha.to(logits)
        if (self.alpha == self.alpha[0]).all():
            total = alpha[0] * terms.sum()
        else:  # by id, with 0 for IGNORE, where the terms are 0 anyway
            by_id = functional.pad(alpha, (0, IGNORE + 1 - self.classes))
            total = (by_id[labels.int()] * terms).sum()
        return torch.stack([total, (labels != IGNORE).sum().to(total)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the mean."""
        return ratio(sums[0], sums[1])


class _Dice(Loss):
    """Dice losses differ in how they join classes; their sums are the same.

    For each class: intersection (sum of p over its pixels), reference (its pixels), prediction (sum of p over all
    pixels with a class); 3 K numbers.
    """

    def _sums(self, logits: Tensor, labels: Tensor) -> Tensor:
        valid = labels != IGNORE
        # Taken apart once, so that the gradient is put together once; masks are bytes.
        planes = functional.softmax(logits, dim=1).unbind(dim=1)
        intersection = [(p * (labels == k)).sum() for k, p in enumerate(planes)]
        prediction = [(p * valid).sum() for p in planes]
        reference = class_counts(labels, self.classes).to(logits.dtype)
        return torch.cat([torch.stack(intersection), reference, torch.stack(prediction)])

    def value(self, sums: Tensor) -> Tensor:
        """Return the loss, between 0 and 1."""
        return self._join(*sums.reshape(3, self.classes))

    @abstractmethod
    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        """Return the loss of sums by class, (K,) each."""


class GeneralizedDice(_Dice):
    """1 - 2 sum_l w_l sum_n r p / sum_l w_l sum_n (r + p), with w_l = 1 / (sum_n r)^2; l are classes, n pixels.

    Sums run over the whole batch. A class that the reference does not hold has weight 0, where the formula has
    1 / 0; predicting it still costs, as the classes that are there lose what it gets. (The authors' own code, in
    NiftyNet, gives it the largest of the other classes' weights instead, so that a few pixels' class decides how
    much it costs.)

    Reference: C. H. Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly unbalanced
    segmentations", DLMIA 2017.
    """

    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        present = reference > 0
        weights = torch.where(present, 1 / torch.where(present, reference, 1) ** 2, 0)
        whole = (weights * (reference + prediction)).sum()
        return ratio(whole - 2 * (weights * intersection).sum(), whole)


class MacroDice(_Dice):
    """Mean over the classes that the reference holds of 1 - 2 sum_n r p / sum_n (r + p)."""

    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        present = reference > 0
        whole = reference + prediction
        each = ratio(whole - 2 * intersection, whole)
        return ratio(torch.where(present, each, 0).sum(), present.sum())


class PooledDice(_Dice):
    """1 - 2 sum_ln r p / sum_ln (r + p), classes pooled.

    With a softmax the divisor is twice the number of pixels: this is 1 - the mean probability of the true class.
    """

    def _join(self, intersection: Tensor, reference: Tensor, prediction: Tensor) -> Tensor:
        whole = (reference + prediction).sum()
        return ratio(whole - 2 * intersection.sum(), whole)


def _cross_entropy(settings: LossSettings, classes: int, weights: Tensor | None) -> Loss:
    return CrossEntropy(classes, weights)


def _focal(settings: LossSettings, classes: int, weights: Tensor | None) -> Loss:
    given = settings.alpha
    if isinstance(given, tuple) and len(given) != classes:
        raise ConfigError(
            f"the focal loss has {len(given)} numbers as alpha for {classes} classes.",
            hint="Give one for each class, or one number for all.",
        )
    alpha = torch.tensor(given, dtype=torch.float64).expand(classes)
    if not (alpha.isfinite() & (alpha >= 0)).all() or not (alpha > 0).any():
        raise ConfigError(f"alpha of the focal loss is {given}: numbers of at least 0 are needed, not all 0.")
    return Focal(classes, settings.gamma, alpha if weights is None else alpha * weights)


def _dice(kind: type[_Dice]) -> Callable[[LossSettings, int, Tensor | None], Loss]:
    def make(settings: LossSettings, classes: int, weights: Tensor | None) -> Loss:
        if weights is not None:
            raise ConfigError(
                f"{settings.name} takes no class weights, and {settings.class_weights!r} are given.",
                hint='Set class_weights = "none", or choose cross_entropy or focal.',
            )
        return kind(classes)

    return make


MakeLoss = Callable[[LossSettings, int, Tensor | None], Loss]
_made_by: dict[str, MakeLoss] = {
    "cross_entropy": _cross_entropy,
    "generalized_dice": _dice(GeneralizedDice),
    "dice": _dice(GeneralizedDice),
    "macro_dice": _dice(MacroDice),
    "pooled_dice": _dice(PooledDice),
    "focal": _focal,
}
#: What makes a loss from its settings, the number of classes and the class weights.
LOSSES: Mapping[str, MakeLoss] = MappingProxyType(_made_by)


def register_loss(name: str, make: MakeLoss) -> None:
    """Add a loss of one's own, so that settings can name it: in this process, until it ends.

    A comparison that runs its trainings in processes of their own (`jobs` above 1) does not know it. A finished
    training is told by the loss's name: where the code changes, change the name too.

    Parameters
    ----------
    name
        For ``[loss] name`` and ``[compare] losses``: small letters, digits and underscores. No loss may have it yet.
    make
        Gives the :class:`Loss`, of the settings, the number of classes K, and the class weights, (K,) or None.

    Raises
    ------
    ConfigError
        If the name is taken or none.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{name!r} is no name for a loss.", hint="Use small letters, digits and underscores.")
    if name in _made_by:
        raise ConfigError(f"there is a loss called {name!r} already.", hint="Choose another name.")
    _made_by[name] = make


def make_loss(settings: LossSettings, classes: int, class_pixels: Sequence[int] | None = None) -> Loss:
    """Make the loss that settings ask for; "dice" is generalized_dice.

    Parameters
    ----------
    settings
        Name and parameters.
    classes
        Number of classes, K.
    class_pixels
        Pixels of each class in the training parts, (K,); needed for class weights only.

    Raises
    ------
    ConfigError
        If no loss has that name, with the names that there are; if alpha does not fit the classes; if the loss takes
        no class weights and some are asked for; if their pixels are not given.
    TrainingError
        If class weights are asked for and no class has a pixel.
    """
    try:
        make = LOSSES[settings.name]
    except KeyError:
        raise ConfigError(f"no loss is called {settings.name!r}.", hint=known_names(settings.name, LOSSES)) from None
    if settings.class_weights == "none":
        return make(settings, classes, None)
    if class_pixels is None or len(class_pixels) != classes:
        raise ConfigError(
            f"class weights {settings.class_weights!r} need the training pixels of each of the {classes} classes; "
            f"given are {None if class_pixels is None else list(class_pixels)}."
        )
    return make(settings, classes, class_weights(class_pixels, settings.class_weights, settings.beta))
