"""Which source of crops a training uses: scenes in memory, or windows read from the files."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from floemap.learning.data.host_memory import Neighbours
from floemap.learning.data.parts import PartArrays, ScenePart
from floemap.learning.data.resident import bytes_of
from floemap.learning.settings import CropSettings
from floemap.progress import milestones
from floemap.threads import free_memory

logger = logging.getLogger(__name__)

Source = Literal["resident", "streamed"]

#: Share of the free memory that scenes may take. The rest is for the network, its gradients, and validation.
_SHARE = 0.5
#: Environment variable with the number of trainings that run on this host at the same time, which share its memory.
BESIDE = "FLOEMAP_TRAININGS_BESIDE"


@dataclass(frozen=True)
class Chosen:
    """A source, and why it was chosen.

    Attributes
    ----------
    source, asked
        The source, and the setting.
    needed
        Bytes that all parts take in memory.
    free
        Free bytes that each of the trainings on the host may count on, of the host that has the fewest; None if the
        system does not say.
    """

    source: Source
    asked: str
    needed: int
    free: int | None

    @property
    def why(self) -> str:
        """The reason, in words."""
        takes = f"the scenes take {self.needed / 1e9:.3g} GB"
        if self.free is None:
            return f"{takes}; this system does not say how much memory is free"
        return f"{takes}, and {self.free / 1e9:.3g} GB of memory are free"

    def record(self) -> dict[str, Any]:
        """Return what the record of a training says of it."""
        free = None if self.free is None else round(self.free / 1e9, 3)
        return {"source": self.source, "asked": self.asked, "scenes_gb": round(self.needed / 1e9, 3), "free_gb": free}


def choose_source(parts: Sequence[ScenePart | PartArrays], settings: CropSettings, neighbours: Neighbours) -> Chosen:
    """Choose the source of crops; the first of the processes logs it, and all choose the same.

    With ``auto`` the parts stay in memory if they take at most half of what is free on every host, within the limits of
    its containers, and if that is not known.

    Raises
    ------
    FloemapError
        If the size of a part cannot be read.
    """
    needed, others = sum(map(bytes_of, parts)), os.environ.get(BESIDE, "")
    beside = max(1, int(others)) if others.isdecimal() else 1
    known = [free for free in neighbours.gathered(free_memory()) if free is not None]
    free = min(known) // beside if known else None
    fits = free is None or needed <= _SHARE * free
    in_memory = any(isinstance(p, PartArrays) for p in parts)
    source: Source = "resident" if fits or in_memory else "streamed"
    if settings.source != "auto":
        source = settings.source
    chosen = Chosen(source, settings.source, needed, free)
    if neighbours.rank or in_memory:
        return chosen
    if settings.source == "auto":
        how = "stay in memory" if source == "resident" else "are read from the files, crop by crop"
        milestones.info("training scenes %s: %s", how, chosen.why)
    elif source == "resident" and not fits:
        logger.warning('crops.source is "resident": %s; "auto" would read crops from the files', chosen.why)
    return chosen
