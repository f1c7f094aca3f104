"""Safe XML parsing and typed values, with errors that name the file, the element and the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from floemap.errors import ProductError
from floemap.safe_xml import BrokenXmlError, DoctypeError, parse_xml
from floemap.sentinel1.safe.container import Container

T = TypeVar("T")


class XmlTree:
    """An element of a product's XML file, with methods that read typed values below it.

    Paths are ElementTree paths, in which ``{*}`` matches any namespace. All methods raise a ProductError if the element
    is missing or its value is invalid.
    """

    def __init__(self, element: etree._Element, container: Container, inside: str, *, verified: bool = False) -> None:
        self.element = element
        self.container = container
        self.inside = inside
        #: Whether the file has the checksum that the manifest gives.
        self.verified = verified

    @classmethod
    def parse(cls, container: Container, inside: str) -> XmlTree:
        """Parse a file of the product without entities, external subsets and network access.

        Raises
        ------
        ProductError
            If the file is empty, is not well-formed, or has a document type, which no Sentinel-1 file has.
        """
        content = container.read(inside)
        if not content.strip():
            raise ProductError(f"{inside} is empty.", path=container.path, hint="Download the product again.")
        try:
            root = parse_xml(content)
        except BrokenXmlError as e:
            hint = "Download the product again."
            raise ProductError(f"{inside} is broken XML: {e}.", path=container.path, hint=hint) from e
        except DoctypeError as e:
            hint = "Download the product from a source that you trust."
            raise ProductError(f"{inside} {e}.", path=container.path, hint=hint) from e
        return cls(root, container, inside)

    def find(self, path: str) -> XmlTree:
        """Return the element at `path`; raise if it is missing, or if there are several that differ."""
        found = self.element.findall(path)
        if not found:
            raise self.error(f"lacks <{path}>")
        if len(found) > 1 and len({etree.tostring(e, with_tail=False) for e in found}) > 1:
            raise self.error(f"has {len(found)} different <{path}>, where one is needed")
        return self._below(found[0])

    def all(self, path: str) -> list[XmlTree]:
        """Return all elements at `path`; the list may be empty."""
        return [self._below(e) for e in self.element.findall(path)]

    def _below(self, element: etree._Element) -> XmlTree:
        return XmlTree(element, self.container, self.inside, verified=self.verified)

    def entries(self, path: str) -> list[XmlTree]:
        """Return the entries at ``list/entry``, which may be none; raise if the list's count attribute differs."""
        inside, _, name = path.rpartition("/")
        for parent in self.all(inside):
            count, found = parent.element.get("count"), len(parent.element.findall(name))
            if count is not None and count.strip() != str(found):
                raise self.error(f"has {found} entries in <{inside}>, whose count is {count[:40]!r}")
        return self.all(path)

    def text(self, path: str = ".") -> str:
        """Return the stripped text at `path`."""
        return (self.find(path).element.text or "").strip()

    def value(self, path: str, kind: Callable[[str], T]) -> T:
        """Return the text at `path`, converted by `kind`, which raises ValueError for an invalid text."""
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
        """Return a text that is one of `known`."""
        text = self.text(path)
        if text not in known:
            raise self.error(f"<{path}> is {text[:40]!r}, where {' or '.join(known)} is needed")
        return text

    def flag(self, path: str) -> bool:
        """Return a boolean."""
        return self.one_of(path, ("true", "false")) == "true"

    def time(self, path: str) -> datetime:
        """Return a time, UTC. Products give it without a zone; one that is given counts."""
        when = self.value(path, datetime.fromisoformat)
        return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)

    def numbers(self, path: str, *, finite: bool = True) -> NDArray[np.float64]:
        """Return the numbers in an element: at least one, as many as its count attribute, finite if `finite`."""
        text = self.text(path)
        try:
            values = np.array(text.split(), dtype=np.float64)
        except ValueError:
            raise self.error(f"<{path}> holds text that is not a number") from None
        count = self.find(path).element.get("count")
        if count is not None and count.strip() != str(values.size):
            raise self.error(f"<{path}> holds {values.size} numbers, and its count is {count[:40]!r}")
        if not values.size or (finite and not np.isfinite(values).all()):
            raise self.error(f"<{path}> is empty or not finite")
        return values

    def positions(self, path: str) -> NDArray[np.float64]:
        """Return line or pixel numbers, strictly increasing."""
        values = self.numbers(path)
        if (np.diff(values) <= 0).any():
            raise self.error(f"<{path}> does not increase")
        return values

    def error(self, what: str) -> ProductError:
        """Return an error about this file, with a hint that depends on :attr:`verified`."""
        hint = (
            "The file has the checksum that the manifest gives, so a new download will not help."
            if self.verified
            else "A new download may help."
        )
        return ProductError(f"{self.inside} {what}.", path=self.container.path, hint=hint)
