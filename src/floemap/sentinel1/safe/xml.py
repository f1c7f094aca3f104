"""Hostile-proof XML, and typed values out of it, with errors that name file, element and value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from floemap.errors import ProductError
from floemap.sentinel1.safe.container import Container

T = TypeVar("T")


class XmlTree:
    """One element of a product's XML file, with readers of typed values below it.

    Paths are ElementTree paths. With a namespace in the document, ``{*}`` stands for any.
    """

    def __init__(self, element: etree._Element, container: Container, inside: str, *, verified: bool = False) -> None:
        self.element = element
        self.container = container
        self.inside = inside
        #: Whether the file is known to be as its checksum in the manifest says.
        self.verified = verified

    @classmethod
    def parse(cls, container: Container, inside: str) -> XmlTree:
        """Parse a file of the product, with entities, external subsets and the network switched off.

        Raises
        ------
        ProductError
            If it is empty, does not parse, or has a document type (no Sentinel-1 file has one).
        """
        content = container.read(inside)
        if not content.strip():
            raise ProductError(f"{inside} is empty.", path=container.path, hint="Download the product again.")
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(content, parser)
        except etree.XMLSyntaxError as e:
            hint = "Download the product again."
            raise ProductError(f"{inside} is broken XML: {e.msg}.", path=container.path, hint=hint) from e
        if root.getroottree().docinfo.doctype:  # type: ignore[union-attr]  # the stubs lack it
            message = f"{inside} declares a document type, where entities would hide."
            raise ProductError(message, path=container.path, hint="No file of Sentinel-1 has one.")
        return cls(root, container, inside)

    def find(self, path: str) -> XmlTree:
        """Return the element at `path`; raise where there is none, or where there are several that differ."""
        found = self.element.findall(path)
        if not found:
            raise self.error(f"lacks <{path}>")
        if len(found) > 1 and len({etree.tostring(e, with_tail=False) for e in found}) > 1:
            raise self.error(f"has {len(found)} different <{path}>, where one is needed")
        return self._below(found[0])

    def all(self, path: str) -> list[XmlTree]:
        """Return all elements at `path`, maybe none."""
        return [self._below(e) for e in self.element.findall(path)]

    def _below(self, element: etree._Element) -> XmlTree:
        return XmlTree(element, self.container, self.inside, verified=self.verified)

    def entries(self, path: str) -> list[XmlTree]:
        """Return the entries at ``list/entry``, maybe none; raise where the list's own count says another number."""
        inside, _, name = path.rpartition("/")
        for parent in self.all(inside):
            count, found = parent.element.get("count"), len(parent.element.findall(name))
            if count is not None and count.strip() != str(found):
                raise self.error(f"has {found} entries in <{inside}>, which counts {count[:40]!r}")
        return self.all(path)

    def text(self, path: str = ".") -> str:
        """Return the stripped text at `path`; raise where there is none."""
        return (self.find(path).element.text or "").strip()

    def value(self, path: str, kind: Callable[[str], T]) -> T:
        """Return the text at `path` as `kind`; raise where it is none."""
        text = self.text(path)
        try:
            return kind(text)
        except ValueError:
            raise self.error(f"<{path}> is {text[:40]!r}") from None

    def number(self, path: str) -> float:
        """Return a finite number."""
        value = self.value(path, float)
        if not np.isfinite(value):
            raise self.error(f"<{path}> is {value}")
        return value

    def count(self, path: str, low: int = 0) -> int:
        """Return a whole number of at least `low`."""
        value = self.value(path, int)
        if value < low:
            raise self.error(f"<{path}> is {value}")
        return value

    def one_of(self, path: str, known: Sequence[str]) -> str:
        """Return a text that is one of those known."""
        text = self.text(path)
        if text not in known:
            raise self.error(f"<{path}> is {text[:40]!r}, where {' or '.join(known)} is needed")
        return text

    def flag(self, path: str) -> bool:
        """Return true or false."""
        return self.one_of(path, ("true", "false")) == "true"

    def time(self, path: str) -> datetime:
        """Return a time, UTC."""
        return self.value(path, datetime.fromisoformat).replace(tzinfo=UTC)

    def numbers(self, path: str, *, finite: bool = True) -> NDArray[np.float64]:
        """Return a list of numbers, at least one, and as many as the element counts; finite ones unless told else."""
        text = self.text(path)
        try:
            values = np.array(text.split(), dtype=np.float64)
        except ValueError:
            raise self.error(f"<{path}> holds something else than numbers") from None
        count = self.find(path).element.get("count")
        if count is not None and count.strip() != str(values.size):
            raise self.error(f"<{path}> holds {values.size} numbers and counts {count[:40]!r}")
        if not values.size or (finite and not np.isfinite(values).all()):
            raise self.error(f"<{path}> is empty or not finite")
        return values

    def positions(self, path: str) -> NDArray[np.float64]:
        """Return line or pixel numbers, strictly rising."""
        values = self.numbers(path)
        if (np.diff(values) <= 0).any():
            raise self.error(f"<{path}> does not rise")
        return values

    def error(self, what: str) -> ProductError:
        """Make an error about this file. Its hint says no more than is known: see :attr:`verified`."""
        hint = (
            "The file is as its checksum in the manifest says, so a new download will not help."
            if self.verified
            else "A new download may help."
        )
        return ProductError(f"{self.inside} {what}.", path=self.container.path, hint=hint)
