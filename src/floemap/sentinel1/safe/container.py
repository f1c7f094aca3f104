"""Reading a product's files from a folder or a zip, with ESA's file names or those of cloud buckets.

Nothing is unpacked. Zips are checked first: members that point outside, that are encrypted, or that expand beyond
reason are refused before anything is read. The names of the product's folders and of its manifest may be in upper or
lower case, and links are followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from floemap.errors import ProductError
from floemap.files import regular_file
from floemap.zips import UNREADABLE, brief, gdal_member, inner_archives, other_archive, refuse_hostile

#: Largest XML file to read. The largest one of a real product is under 10 MB.
MAX_XML_BYTES = 128 << 20
MANIFEST = "manifest.safe"
#: Folders of a product that are read; the first holds the manifest and SIMULATED.txt.
_FOLDERS = ("", "annotation", "annotation/calibration", "measurement")
_SUFFIXES = re.compile(r"(\.SAFE|\.zip)+$", re.IGNORECASE)


@dataclass(frozen=True)
class Container:
    """A product's files by their path inside the product, and how to read each.

    Attributes
    ----------
    path
        Path of the folder or zip.
    root
        The product's folder inside a zip ("" if the members are at the top); "" for a folder.
    sizes
        Size in bytes by path inside the product, with forward slashes and the folders in lower case.
    stored
        Path on the disk, or member of the zip, by path inside the product.
    """

    path: Path
    root: str
    sizes: dict[str, int]
    stored: dict[str, Path | zipfile.ZipInfo] = field(repr=False)

    @property
    def is_zip(self) -> bool:
        """Whether the container is a zip."""
        return self.path.is_file()

    @property
    def name(self) -> str:
        """The product's name, without ``.SAFE`` or ``.zip``."""
        # Links are not resolved: the user chose the link's name.
        name = PurePosixPath(self.root).name if self.root else Path(os.path.abspath(self.path)).name  # noqa: PTH100
        return _SUFFIXES.sub("", name)

    def read(self, inside: str) -> bytes:
        """Return the bytes of a metadata file.

        Raises
        ------
        ProductError
            If the file cannot be read whole, or is larger than :data:`MAX_XML_BYTES`.
        """
        if self.sizes[inside] > MAX_XML_BYTES:
            message = f"{inside} has {self.sizes[inside]} bytes: too large for metadata."
            raise ProductError(message, path=self.path, hint="Download the product again.")
        with self._reading(inside) as f:
            content: bytes = f.read(MAX_XML_BYTES)
        return content

    def md5(self, inside: str) -> str:
        """Return a file's MD5, as hexadecimal digits. It detects damage, not manipulation."""
        with self._reading(inside) as f:
            return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

    @contextmanager
    def _reading(self, inside: str) -> Iterator[Any]:
        stored = self.stored[inside]
        try:
            if isinstance(stored, Path):
                with stored.open("rb") as f:
                    yield f
            else:
                with zipfile.ZipFile(self.path) as z, z.open(stored) as member:
                    yield member
        except UNREADABLE as e:
            message = f"{inside} cannot be read: {brief(e)}."
            raise ProductError(message, path=self.path, hint="Download the product again.") from e

    def gdal_name(self, inside: str) -> str:
        """Return the name under which GDAL opens a file of the product.

        Raises
        ------
        ProductError
            If GDAL cannot find it in the zip.
        """
        stored = self.stored[inside]
        if isinstance(stored, Path):
            return str(stored.absolute())  # GDAL takes a relative path such as http:/x for a web address
        member = gdal_member(stored)
        if member is None:
            raise ProductError(
                f"holds a member with a name that GDAL cannot open: {stored.filename!r}.",
                path=self.path,
                hint="Unpack the zip and give the folder.",
            )
        path = str(self.path.resolve())
        # Braces mark the end of the archive's name for GDAL, which guesses by suffix. Names with braces go without.
        return f"/vsizip/{path if set('{}') & set(path) else f'{{{path}}}'}/{member}"

    def find(self, folder: str, pattern: str) -> list[str]:
        """Return the files directly in `folder` whose names match a regular expression, sorted, without hidden ones."""
        regex = re.compile(pattern, re.IGNORECASE)
        files = [PurePosixPath(p) for p in self.sizes]
        found = [p for p in files if str(p.parent) == folder and regex.fullmatch(p.name) and not p.name.startswith(".")]
        return sorted(map(str, found))


def open_container(path: Path) -> Container:
    """List a product's files. `path` is a folder, its ``manifest.safe``, or a zip that holds such a folder.

    Raises
    ------
    ProductError
        If `path` does not exist, holds no ``manifest.safe`` or several products, or is a broken or hostile zip.
    """
    path = Path(path)
    try:
        path = path.parent if path.name.lower() == MANIFEST else path
        if path.is_dir():
            return _open_folder(path)
        regular_file(path, ProductError)
        return _open_zip(path)
    except OSError as e:  # such as a missing permission or a name that is too long
        raise ProductError(f"cannot be read: {e.strerror or e}.", path=path) from e


def holds_manifest(folder: Path) -> bool:
    """Return whether a folder holds a manifest and so is a product."""
    return any(p.name.lower() == MANIFEST and p.is_file() for p in folder.iterdir())


def _open_folder(path: Path) -> Container:
    if not holds_manifest(path):
        others = [p.name for p in sorted(path.iterdir()) if p.suffix.lower() in (".safe", ".zip")]
        raise ProductError(
            "holds no manifest.safe, so it is not a Sentinel-1 product.",
            path=path,
            hint=f"Give one of the {len(others)} products that the folder may hold, such as {others[0]!r}."
            if others
            else "Give the folder that holds manifest.safe, or the product's zip.",
        )
    # Only these folders are listed, through links too; other files in the product do not matter.
    stored: dict[str, Path] = {}
    folders = {"": path}
    for inside in _FOLDERS:
        if inside not in folders:
            continue
        for p in sorted(folders[inside].iterdir()):
            below = f"{inside}/{p.name}".removeprefix("/")
            if p.is_dir() and below.lower() in _FOLDERS:
                _refuse_twin(path, below.lower(), folders)
                folders[below.lower()] = p
            elif below.lower() == MANIFEST or p.is_file():
                regular_file(p, ProductError)
                below = MANIFEST if below.lower() == MANIFEST else below
                _refuse_twin(path, below, stored)
                stored[below] = p
    return Container(path, "", {n: p.stat().st_size for n, p in stored.items()}, dict(stored))


def _refuse_twin(path: Path, inside: str, known: Iterable[str]) -> None:
    if inside in known:
        raise ProductError(
            f"holds {inside} twice, in upper and lower case.", path=path, hint="Move one of the two away."
        )


def _open_zip(path: Path) -> Container:
    try:
        with zipfile.ZipFile(path) as z:
            members = z.infolist()
    except UNREADABLE as e:
        raise _no_zip(path, e) from e
    files = refuse_hostile(path, members, ProductError)
    manifests = [n for n in files if PurePosixPath(n).name.lower() == MANIFEST]
    inner = inner_archives(files)
    if not manifests and inner:
        hint = "Unpack the outer zip and give the archive that was in it, or its folder."
        raise ProductError(f"holds another archive, {inner[0]!r}.", path=path, hint=hint)
    if len(manifests) != 1:
        raise ProductError(
            f"holds {len(manifests)} files named manifest.safe where one is needed.",
            path=path,
            hint="Give a zip that holds one Sentinel-1 product.",
        )
    root = manifests[0].rpartition("/")[0]
    if root and not _SUFFIXES.sub("", PurePosixPath(root).name).strip(". "):
        message = f"holds its product in a folder named {PurePosixPath(root).name!r}, which is not a product's name."
        raise ProductError(message, path=path, hint="Unpack the zip, rename the folder, and give the folder.")
    stored: dict[str, zipfile.ZipInfo] = {}
    for name, member in files.items():
        if root and not name.startswith(f"{root}/"):
            continue
        folder, _, file = name.removeprefix(f"{root}/" if root else "").rpartition("/")
        folder = folder.lower() if folder.lower() in _FOLDERS else folder
        inside = f"{folder}/{MANIFEST if file.lower() == MANIFEST else file}".removeprefix("/")
        _refuse_twin(path, inside, stored)
        stored[inside] = member
    return Container(path, root, {n: m.file_size for n, m in stored.items()}, dict(stored))


def _no_zip(path: Path, error: BaseException) -> ProductError:
    """Return the error about a file that is not a zip."""
    with path.open("rb") as f:
        head = f.read(512)
    kind = other_archive(head)
    if kind is not None:
        return ProductError(f"is {kind}.", path=path, hint="Unpack it and give the product's folder or zip.")
    if not head:
        return ProductError("is empty.", path=path, hint="Download the product again.")
    if head.lstrip()[:1] == b"<" and head[:5] != b"<?xml":
        message = "is a web page, where a product is needed: the server sent it instead of the product."
        return ProductError(message, path=path, hint="Log in to the server, and download the product again.")
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or head[:5] == b"<?xml":
        what = "an XML file" if head[:1] == b"<" else "a TIFF image"
        hint = "If the file is a part of a product, give the product's folder, which holds manifest.safe."
        return ProductError(f"is {what}, where a product is needed.", path=path, hint=hint)
    hint = "Give a product's folder or its zip; if it is a zip, download it again."
    return ProductError(f"is not a readable zip: {brief(error)}.", path=path, hint=hint)
