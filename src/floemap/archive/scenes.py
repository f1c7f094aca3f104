"""Which products are meant: by folders, patterns, and files that list them."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from floemap.errors import ConfigError, FloemapError
from floemap.files import decoded, regular_file
from floemap.remote.address import Address, address_of

logger = logging.getLogger(__name__)

#: Files that list products, one a line.
_LISTS = (".txt", ".lst")
_SUFFIX = re.compile(r"(\.SAFE|\.zip|\.nc)+$", re.IGNORECASE)


def find_scenes(scenes: Sequence[str | Path]) -> list[Path | Address]:
    """Return the products that are meant, each once, in the order given; those of a folder by name.

    Parameters
    ----------
    scenes
        Products; folders of products, which may be in folders below it; patterns such as ``2018/*.zip``; and text files
        (``.txt``, ``.lst``) with a product, folder or pattern a line, relative to the folder of the file. Empty lines
        and lines that begin with ``#`` do not count.

    Raises
    ------
    ConfigError
        If a folder or pattern leads to no product, with its name. A product that does not exist fails later, by itself.
    DownloadError
        If a folder in an object store cannot be listed.
    """
    found = [path for given in scenes for path in _meant(os.fspath(given), Path())]
    if not found:
        raise ConfigError("no scene is given.", hint="Give products, folders of products, a pattern or a list.")
    return list({_key(product): product for product in found}.values())


def _key(product: Path | Address) -> str:
    return str(product) if isinstance(product, Address) else os.path.abspath(product)  # noqa: PTH100  links keep their names


def scene_name(product: Path) -> str:
    """Return the name that a product's chart will have, from the product's own name; the product is not read."""
    path = product.parent if product.name == "product.tif" else product
    return _SUFFIX.sub("", Path(os.path.abspath(path)).name)  # noqa: PTH100


def is_product(path: Path) -> bool:
    """Whether a path looks like a product, by its name and, for folders, by what they contain."""
    if path.is_dir():
        return (path / "product.tif").is_file() or path.suffix.lower() == ".safe" or _has_manifest(path)
    return path.name == "product.tif" or path.suffix.lower() in (".zip", ".nc")


def _warn(folder: Path, error: OSError) -> None:
    logger.warning("%s cannot be looked into (%s), and its products are left out", folder, error.strerror or error)


def products_in(folder: Path, unreadable: Callable[[Path, OSError], None] = _warn) -> Iterator[Path]:
    """Give the products in a folder and below it, by name. Hidden files and folders do not count.

    Parameters
    ----------
    unreadable
        Called with each folder below it that cannot be looked into, and its error. The others are looked into.

    Raises
    ------
    OSError
        If the folder itself cannot be looked into.
    """
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            if is_product(path):
                yield path
            elif path.is_dir() and not path.is_symlink():
                yield from products_in(path, unreadable)
        except FileNotFoundError:  # it has just gone
            continue
        except OSError as e:
            unreadable(path, e)


def _has_manifest(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("manifest.safe", "MANIFEST.SAFE"))


def _meant(given: str, base: Path) -> Iterator[Path | Address]:
    path = base / given
    if (address := address_of(given)) is not None:
        yield from _in_store(address)
    elif path.suffix.lower() in _LISTS and path.is_file():
        yield from _listed(path)
    elif path.exists() or not glob.has_magic(given):
        yield from _existing(path)
    else:
        matches = sorted(glob.glob(given, root_dir=base, recursive=True))  # noqa: PTH207  the base is not a pattern
        if not matches:
            raise ConfigError("no product matches the pattern.", path=path, hint="Check the pattern, and quote it.")
        for match in matches:
            yield from _existing(base / match)


def _in_store(address: Address) -> list[Address]:
    if address.is_file or address.name.lower().endswith(".safe"):
        return [address]
    if "*" in address.shown:
        hint = "Give the folder before it, whose products are all charted, or list the addresses in a file."
        raise ConfigError(f"{address} is a pattern, and addresses have none.", hint=hint)
    from floemap.remote.object_store import list_files

    inside = [file.inside for file in list_files(address)]
    if any(name.lower() == "manifest.safe" for name in inside):
        return [address]
    folders = {name.rpartition("/")[0] for name in inside if name.lower().endswith("/manifest.safe")}
    files = {n for n in inside if n.lower().endswith((".zip", ".nc")) and n.rpartition("/")[0] not in folders}
    if not folders and not files:
        raise ConfigError(f"{address} contains no product.", hint="Check the address.")
    found = []
    for name in sorted(folders | files):
        try:
            found.append(address.within(name))
        except ConfigError as e:  # a name that an address cannot have concerns no other product
            logger.warning("%s It is left out.", e)
    if not found:
        raise ConfigError(f"{address} contains no product whose name an address can have.", hint="Rename them.")
    return found


def _existing(path: Path) -> Iterable[Path]:
    if not path.is_dir() or is_product(path):
        return [path]  # what is not a product fails by itself, and does not stop the others
    found = list(products_in(path))
    if not found:
        hint = "Products are folders NAME.SAFE, zips, prepared products, or files of AI4Arctic (.nc)."
        raise ConfigError("contains no product.", path=path, hint=hint)
    return found


def _listed(path: Path) -> Iterator[Path | Address]:
    try:
        lines = decoded(regular_file(path).read_bytes()).splitlines()
    except (OSError, ValueError) as e:
        raise FloemapError(f"cannot be read as a list of products: {e}.", path=path) from e
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            if Path(line).suffix.lower() in _LISTS:
                raise ConfigError(f"lists another list, {line}.", path=path, hint="List the products themselves.")
            yield from _meant(line, path.parent)
