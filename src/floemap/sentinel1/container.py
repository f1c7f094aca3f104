"""Where a product's files lie: a folder or a zip, ESA's file names or the cloud buckets'.

Nothing is ever unpacked. A zip from a stranger is looked at first: members that point outside, that are encrypted, or
that would swell beyond reason are refused before anything is read.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from floemap.errors import ProductError
from floemap.files import regular_file
from floemap.zips import UNREADABLE, brief, refuse_hostile

#: The largest XML of a real product is under 10 MB.
MAX_XML_BYTES = 128 << 20


@dataclass(frozen=True)
class Container:
    """A product's files by their path inside it, with a way to read each.

    Attributes
    ----------
    path
        Of the folder or zip.
    root
        The product's folder inside a zip ("" where the members lie at the top); "" for a folder.
    sizes
        Size in bytes by path inside the product, with forward slashes.
    """

    path: Path
    root: str
    sizes: dict[str, int]

    @property
    def is_zip(self) -> bool:
        """Whether this is a zip."""
        return self.path.is_file()

    @property
    def name(self) -> str:
        """The product's name, without ``.SAFE`` or ``.zip``."""
        name = PurePosixPath(self.root).name if self.root else self.path.name
        return re.sub(r"(\.SAFE|\.zip)+$", "", name, flags=re.IGNORECASE)

    def read(self, inside: str) -> bytes:
        """Return a small file's bytes.

        Raises
        ------
        ProductError
            If it cannot be read whole, or is too large for an XML file.
        """
        if self.sizes[inside] > MAX_XML_BYTES:
            raise ProductError(f"{inside} has {self.sizes[inside]} bytes: too large for metadata.", path=self.path)
        try:
            if not self.is_zip:
                return (self.path / inside).read_bytes()
            with zipfile.ZipFile(self.path) as z, z.open(self._member(inside)) as f:
                return f.read(MAX_XML_BYTES)
        except UNREADABLE as e:
            raise self._unreadable(inside, e) from e

    def md5(self, inside: str) -> str:
        """Return a file's MD5, as hexadecimal digits. It says whether a file is whole; it protects against no one."""
        digest = hashlib.md5(usedforsecurity=False)
        try:
            if not self.is_zip:
                with (self.path / inside).open("rb") as f:
                    return hashlib.file_digest(f, lambda: digest).hexdigest()
            with zipfile.ZipFile(self.path) as z, z.open(self._member(inside)) as f:
                while block := f.read(1 << 20):
                    digest.update(block)
        except UNREADABLE as e:
            raise self._unreadable(inside, e) from e
        return digest.hexdigest()

    def _unreadable(self, inside: str, error: BaseException) -> ProductError:
        return ProductError(f"{inside} cannot be read: {brief(error)}.", path=self.path, hint="Download it again.")

    def gdal_name(self, inside: str) -> str:
        """Return the name by which GDAL opens a file of the product."""
        if self.is_zip:
            path = str(self.path.resolve())
            # Braces tell GDAL where the archive's name ends, without guessing by its suffix; but not around braces.
            return f"/vsizip/{path if set('{}') & set(path) else f'{{{path}}}'}/{self._member(inside)}"
        return str(self.path / inside)

    def _member(self, inside: str) -> str:
        return f"{self.root}/{inside}" if self.root else inside

    def find(self, folder: str, pattern: str) -> list[str]:
        """Return the files right in `folder` whose names match the regular expression, in order; no hidden ones."""
        regex = re.compile(pattern, re.IGNORECASE)
        files = [PurePosixPath(p) for p in self.sizes]
        found = [p for p in files if str(p.parent) == folder and regex.fullmatch(p.name) and not p.name.startswith(".")]
        return sorted(map(str, found))


def open_container(path: Path) -> Container:
    """List a product's files. `path` is a folder, its ``manifest.safe``, or a zip that holds such a folder.

    Raises
    ------
    ProductError
        If there is nothing there, no ``manifest.safe``, more than one product, or a zip that is broken or hostile.
    """
    path = Path(path)
    try:
        return _open(path.parent if path.name.lower() == "manifest.safe" else path)
    except OSError as e:  # no permission, a name that is too long
        raise ProductError(f"cannot be read: {e.strerror or e}.", path=path) from e


def _open(path: Path) -> Container:
    if path.is_dir():
        if not (path / "manifest.safe").is_file():
            raise ProductError(
                "holds no manifest.safe: this is no Sentinel-1 product.",
                path=path,
                hint="Give the folder that holds manifest.safe, or the product's zip.",
            )
        sizes = {p.relative_to(path).as_posix(): p.stat().st_size for p in path.rglob("*") if p.is_file()}
        return Container(path, "", sizes)
    regular_file(path, ProductError)
    return _open_zip(path)


def _open_zip(path: Path) -> Container:
    try:
        with zipfile.ZipFile(path) as z:
            members = z.infolist()
    except UNREADABLE as e:
        hint = "Give a product's folder or its zip; if it is a zip, download it again."
        raise ProductError(f"is no readable zip: {brief(e)}.", path=path, hint=hint) from e
    refuse_hostile(path, members, ProductError)
    sizes = {m.filename: m.file_size for m in members if not m.is_dir()}
    manifests = [n for n in sizes if PurePosixPath(n).name == "manifest.safe"]
    if len(manifests) != 1:
        raise ProductError(
            f"holds {len(manifests)} files named manifest.safe where one is needed.",
            path=path,
            hint="A zip must hold one Sentinel-1 product.",
        )
    root = str(PurePosixPath(manifests[0]).parent)
    root = "" if root == "." else root
    prefix = f"{root}/" if root else ""
    return Container(path, root, {n.removeprefix(prefix): s for n, s in sizes.items() if n.startswith(prefix)})
