"""Models that a configuration names by import string, ``module:Class``: what is built, with which arguments.

Named is a class derived from :class:`torch.nn.Module`, or a function whose annotation says that it returns one. Nothing
else is called: a checkpoint names its model in this way too, and may come from a stranger. Importing the module runs
its code all the same.

Four kinds of arguments are filled in, by the name of the parameter: the number of bands (:data:`BANDS`), the number of
classes (:data:`CLASSES`), of each kind the first name that the signature has, the channels of each head by its name
(:data:`TASKS`), and pretrained weights (:data:`PRETRAINED`), which are off unless [model.options] sets them, because
most packages would download them. The number of classes is that of the channels of all heads, which the one tensor of
such a model has, unless the signature has :data:`TASKS`; then it is that of the classes alone. The
other parameters are the options. A class with a class ``Options`` within it, derived from
:class:`floemap.config.Settings`, gets one of those as its parameter `options` instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from floemap.bands import BandSet
from floemap.config import Settings
from floemap.errors import ConfigError, known_names
from floemap.learning.models.base import SegmentationModel
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import Head, heads_of
from floemap.plugins import identity, imported, package_of
from floemap.sentinel1.encoding import PRODUCT_BANDS

#: Names of parameters for the number of bands.
BANDS = ("in_channels", "in_chans", "num_channels", "input_channels", "n_channels", "bands")
#: Names of parameters for the number of classes.
CLASSES = ("classes", "num_classes", "n_classes", "num_labels", "out_channels")
#: Name of the parameter for the channels of each head, by its name, in order.
TASKS = "tasks"
#: Names of parameters for pretrained weights, and the values that leave these out.
PRETRAINED: Mapping[str, bool | None] = MappingProxyType(
    {
        "encoder_weights": None,
        "weights": None,
        "weights_backbone": None,
        "pretrained": False,
        "pretrained_backbone": False,
    }
)
#: Settings that belong to floemap's models.
_OF_FLOEMAPS = ("output_stride", "rates", "dropout", "encoder_weights")


@dataclass(frozen=True)
class Origin:
    """Where a model that is named by import string comes from.

    Attributes
    ----------
    source
        SHA-256 of the file that defines it.
    package
        Installed package and its version, such as "segmentation_models_pytorch 0.5.0"; None for a user's file.
    """

    source: str
    package: str | None

    def inputs(self) -> dict[str, str]:
        """Return what identifies the model in a record."""
        return {"model": self.source} | ({} if self.package is None else {"model_package": self.package})


def is_own(name: str) -> bool:
    """Return whether a model's name is an import string."""
    return ":" in name


def origin(name: str) -> Origin:
    """Return where a model comes from.

    Raises
    ------
    ConfigError
        If it cannot be imported, or is not a model.
    """
    return Origin(identity(own_class(name)), package_of(name))


def own_class(name: str) -> Callable[..., nn.Module]:
    """Import the class, or function, that an import string names.

    Raises
    ------
    ConfigError
        If it cannot be imported, or neither is a class derived from torch.nn.Module nor returns one by its annotation.
    """
    found = imported(name, "model.name")
    if inspect.isclass(found) and issubclass(found, nn.Module):
        if inspect.isabstract(found):
            lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise ConfigError(f"model.name is {name!r}, which does not define {lacking}.")
        return found
    if inspect.isfunction(found):
        try:
            returned = get_type_hints(found).get("return")
        except Exception:  # an annotation may name what cannot be found
            returned = None
        if inspect.isclass(returned) and issubclass(returned, nn.Module):
            return found
    raise ConfigError(
        f"model.name is {name!r}, which is neither a class derived from torch.nn.Module nor a function annotated to "
        "return one.",
        hint="Derive a class from torch.nn.Module that makes the network in its __init__.",
    )


def check_own(settings: ModelSettings) -> None:
    """Import a model that is named by import string and check its options, without building it.

    Raises
    ------
    ConfigError
        If it cannot be imported, settings of floemap's models are given for it, an option is unknown, or a parameter
        has no value.
    """
    defaults = ModelSettings()
    for key in _OF_FLOEMAPS:
        if getattr(settings, key) != getattr(defaults, key):
            raise ConfigError(
                f"model.{key} is a setting of floemap's models, but model.name is {settings.name!r}.",
                hint=f"Leave it out. The options in [model.options] are {_known(own_class(settings.name))}.",
            )
    arguments(settings, PRODUCT_BANDS, heads_of({}, 2))


def arguments(
    settings: ModelSettings, bands: BandSet, heads: Sequence[Head], *, trained: bool = False
) -> dict[str, Any]:
    """Return the keyword arguments from which a model is built.

    Parameters
    ----------
    settings
        Name and options of the model.
    bands, heads
        Bands that the model reads, and heads that it gives, that of classes first.
    trained
        The weights will come from a checkpoint: no pretrained weights are loaded, whatever the options say.

    Raises
    ------
    ConfigError
        As :func:`check_own` does.
    """
    make, name = own_class(settings.name), settings.name
    if inspect.isclass(make) and issubclass(make, SegmentationModel):
        checked_options(make, settings)
        own = {"bands": bands} if "bands" in _parameters(make, name) else {}
        return {"settings": settings, "classes": sum(h.channels for h in heads), **own}
    known = _parameters(make, name)
    by_head = TASKS in known and TASKS not in settings.options
    classes = heads[0].channels if by_head else sum(h.channels for h in heads)
    numbers = zip(_filled(known), (bands.channels, classes), strict=True)
    filled: dict[str, Any] = {key: number for key, number in numbers if key is not None}
    if by_head:
        filled[TASKS] = {h.name: h.channels for h in heads}
    given: dict[str, Any] = dict(settings.options)
    if has_options(make):
        given = {"options": checked_options(make, settings)}
    elif taken := sorted(given.keys() & filled.keys()):
        raise ConfigError(
            f"[model.options] sets {taken[0]}, which follows from the bands and the legend.", hint="Leave it out."
        )
    else:
        _refuse_unknown(given, make, name)
        _refuse_other_kinds(given, make, name)
    off = {key: value for key, value in PRETRAINED.items() if key in known and (trained or key not in given)}
    given = filled | given | off
    needed = [key for key, p in known.items() if p.default is p.empty and key not in given]
    if needed:
        raise ConfigError(
            f"model.name is {name!r}, whose parameter {needed[0]} has neither a default nor a value.",
            hint=f"Set it in [model.options]. The number of bands is given to one of {', '.join(BANDS)}; the number of "
            f"classes to one of {', '.join(CLASSES)}; the channels of each head to {TASKS}.",
        )
    return given


def has_options(make: Any) -> bool:
    """Return whether a class has a class ``Options`` for its options."""
    kind = getattr(make, "Options", None)
    return inspect.isclass(kind) and issubclass(kind, Settings)


def checked_options(make: Any, settings: ModelSettings) -> Settings:
    """Return the options of a class that has a class ``Options``.

    Raises
    ------
    ConfigError
        If the class does not have an option, or a value is out of range.
    """
    kind: type[Settings] = make.Options
    try:
        return kind.checked(**settings.options)
    except ConfigError as e:
        raise ConfigError(
            f"[model.options] for {settings.name}: {e.message}", hint=f"Options of {settings.name}: {_known(make)}."
        ) from e


def _refuse_unknown(options: Mapping[str, Any], make: Callable[..., Any], name: str) -> None:
    kinds = inspect.signature(make).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in kinds):
        return  # the class checks them itself
    known = _options_of(make)
    for key in options:
        if key not in known:
            hint = known_names(key, known) if known else "The class has no options."
            raise ConfigError(f"[model.options] for {name}: the key {key!r} is unknown.", hint=hint)


#: Kinds of values that settings have, in the words of errors.
_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _refuse_other_kinds(options: Mapping[str, Any], make: Callable[..., Any], name: str) -> None:
    """Refuse values of another kind than the annotations of their parameters allow, where these say it plainly.

    An annotation that the parameter's own default contradicts says nothing.
    """
    try:
        hints = get_type_hints(make.__init__ if inspect.isclass(make) else make)
    except Exception:  # an annotation may name what cannot be found
        return
    known = _parameters(make, name)
    for key, value in options.items():
        kinds = _plain_kinds(hints.get(key))
        if not kinds or key not in known:
            continue
        default = known[key].default
        if not _is_of(kinds, value) and (default is inspect.Parameter.empty or _is_of(kinds, default)):
            needed = " or ".join(_KINDS.get(kind, repr(kind)) for kind in kinds)
            raise ConfigError(f"[model.options] for {name}: {key} is {value!r}: {needed} is needed.")


def _is_of(kinds: Sequence[Any], value: Any) -> bool:
    """Return whether a value is None, of one of the types, or one of the values."""
    return value is None or any(
        type(value) is kind or (kind is float and type(value) is int) or (type(value) is type(kind) and value == kind)
        for kind in kinds
    )


def _plain_kinds(annotation: Any) -> list[Any]:
    """Return the types and values that a parameter takes; none if its annotation allows others than settings have."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return list(inner)
    if origin in (Union, UnionType):
        each = [_plain_kinds(a) for a in inner if a is not NoneType]
        return [kind for kinds in each for kind in kinds] if all(each) else []
    return [annotation] if annotation in _KINDS else []


def _parameters(make: Callable[..., Any], name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be given by name."""
    try:
        found = inspect.signature(make).parameters.values()
    except (TypeError, ValueError) as e:
        raise ConfigError(f"model.name is {name!r}, whose parameters are not known: {e}.") from e
    unnamed = [p.name for p in found if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if unnamed:
        raise ConfigError(f"model.name is {name!r}, whose parameter {unnamed[0]} cannot be given by name.")
    return {p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _options_of(make: Callable[..., Any]) -> list[str]:
    """Return the names of the options of a class or function."""
    if has_options(make):
        return list(make.Options.model_fields)  # type: ignore[attr-defined]
    known = _parameters(make, getattr(make, "__name__", str(make)))
    return [key for key in known if key not in _filled(known)]


def _filled(known: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return which parameters get the numbers of bands and of classes; None where the signature has none for it."""
    bands, classes = (next((key for key in names if key in known), None) for names in (BANDS, CLASSES))
    return bands, classes


def _known(make: Callable[..., Any]) -> str:
    return ", ".join(_options_of(make)) or "none"


def build_network(settings: ModelSettings, given: Mapping[str, Any]) -> nn.Module:
    """Build the network that a configuration names, from its arguments.

    Raises
    ------
    ConfigError
        If building fails, or does not give a torch.nn.Module.
    """
    try:
        network = own_class(settings.name)(**given)
    except ConfigError:
        raise
    except Exception as e:  # whatever the class raises
        reason = " ".join(str(e).split())[:300]
        raise ConfigError(
            f"the model {settings.name} cannot be built: {type(e).__name__}: {reason}.",
            hint=f"Its options are {_known(own_class(settings.name))}.",
        ) from e
    if not isinstance(network, nn.Module):
        raise ConfigError(f"the model {settings.name} is a {type(network).__name__}, not a torch.nn.Module.")
    return network
