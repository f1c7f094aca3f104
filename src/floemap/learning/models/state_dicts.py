"""Tables of tensors by name, as models' state dicts are: what a file's lacks, or has too much, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

_NAMED = 3


def what_differs(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], may_lack: Callable[[str], bool] = lambda name: False
) -> str | None:
    """Say how given tensors differ in names and shapes from those wanted, or that some are not finite; None if not.

    Parameters
    ----------
    may_lack
        Whether a name may be absent.
    """
    complaints = {
        "it lacks": [name for name in wanted if name not in given and not may_lack(name)],
        "it has the unknown": [name for name in given if name not in wanted],
        "it has other shapes or types:": [
            f"{name} is {_kind(x)} for {_kind(wanted[name])}"
            for name, x in given.items()
            if name in wanted and _kind(x) != _kind(wanted[name])
        ],
        "it is not finite in": [name for name, x in given.items() if not x.isfinite().all()],
    }
    for what, names in complaints.items():
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            return f"{what} {', '.join(names[:_NAMED])}{more}"
    return None


def _kind(x: Tensor) -> str:
    """Shape and type, such as ``64 x 3 x 7 x 7 float32``."""
    return f"{' x '.join(str(n) for n in x.shape)} {str(x.dtype).removeprefix('torch.')}".strip()
