"""Addresses of products on web servers and in object stores.

An address may be signed: its query then is a key. It is kept for the request alone, and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from floemap.errors import ConfigError
from floemap.results.names import is_plain

#: Object stores by the scheme of their addresses: GDAL's prefix.
STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
_WEB = ("https", "http")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FILES = (".zip", ".nc")
_LONGEST = 8192


@dataclass(frozen=True)
class Address:
    """The address of a product, or of a folder of products in an object store.

    Attributes
    ----------
    url
        The whole address, with a signature if it has one. It is a secret.
    scheme
        ``https``, ``http``, ``s3``, ``gs`` or ``az``.
    shown
        The address without its query.
    """

    url: str = field(repr=False)
    scheme: str
    shown: str

    def __str__(self) -> str:
        return self.shown

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        last = self.shown.rsplit("/", 1)[-1]
        return unquote(last) if self.scheme in _WEB else last

    @property
    def is_file(self) -> bool:
        """Whether it is a file, by its name; else it is a folder in an object store."""
        return self.name.lower().endswith(_FILES)

    @property
    def in_store(self) -> bool:
        """Whether it is in an object store."""
        return self.scheme in STORES

    @property
    def vsi(self) -> str:
        """GDAL's name for an address in an object store."""
        return STORES[self.scheme] + self.shown.partition("://")[2]

    @property
    def path(self) -> Path:
        """A path that identifies the product among others. It leads nowhere, and has no query."""
        return Path(self.shown)

    def within(self, name: str) -> Address:
        """Return the address of a file or folder in this one, which is in an object store."""
        return address_of(f"{self.shown}/{name}")  # type: ignore[return-value]  # it has a scheme


def address_of(text: str | Path | Address) -> Address | None:
    """Return the address that a text is; None if it is a path.

    Raises
    ------
    ConfigError
        If it is an address of another kind, or one that cannot be a product's.
    """
    if isinstance(text, Address):
        return text
    match = _SCHEME.match(text) if isinstance(text, str) else None
    if match is None or not isinstance(text, str):
        return None
    scheme = match[1].lower()
    shown = text.partition("?")[0].partition("#")[0].rstrip("/")
    if "@" in text.partition("://")[2].partition("/")[0]:  # also where a "#" or "?" in a password hides it
        hint = "Give a signed address, or let GDAL find the account: see the documentation of archives."
        raise _wrong(f"{scheme}://...", "contains a user name or password", hint)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong(shown, "is not a web address", "Check it.") from None
    if scheme not in (*STORES, *_WEB):
        raise _wrong(
            shown, "is of a kind that floemap does not read", "Give a path, or https://, s3://, gs:// or az://."
        )
    names = shown.partition("://")[2].split("/")[1:]
    if not host or not text.isprintable() or " " in host or len(text) > _LONGEST or {"", ".", ".."} & {*names}:
        raise _wrong(shown, "is not the address of a product", "Check it.")
    found = Address(text if scheme in _WEB else shown, scheme, f"{scheme}://{shown.partition('://')[2]}")
    if found.in_store and "?" in text:
        raise _wrong(shown, "has a query, and addresses in object stores have none", "Leave it out, or give https://.")
    if scheme in _WEB and not found.is_file:
        hint = "Give the address of a product's zip; folders are read from object stores (s3://, gs://, az://) only."
        raise _wrong(shown, "does not end in the name of a zip or of a file of AI4Arctic (.nc)", hint)
    if names and not is_plain(found.name):
        raise _wrong(shown, "does not end in a name that a file can have", "Rename the product.")
    return found


def paths_and_addresses(products: Iterable[str | Path | Address]) -> tuple[list[Path], dict[Path, Address]]:
    """Return the paths that stand for products, in order, and the addresses of those that have one, by these paths.

    Raises
    ------
    ConfigError
        If an address cannot be a product's.
    """
    paths, addresses = [], {}
    for product in products:
        address = address_of(product)
        if address is not None:
            addresses[address.path] = address
        paths.append(Path(product) if address is None else address.path)  # type: ignore[arg-type]
    return paths, addresses


def path_of(product: Path | Address) -> Path:
    """Return the path that stands for a product."""
    return product.path if isinstance(product, Address) else product


def as_address(product: Path) -> str:
    """Return a path, or the address that it stands for, as a person would write it."""
    return re.sub(rf"^({'|'.join((*STORES, *_WEB))}):/(?!/)", r"\1://", str(product))


def _wrong(shown: str, why: str, hint: str) -> ConfigError:
    return ConfigError(f"{shown[:300]!r} {why}.", hint=hint)
