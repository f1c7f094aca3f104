"""A disk that forgets, at a power cut, whatever was not synced: the strictest that POSIX allows.

After ``fsync`` of a file its bytes outlive a cut, after that of a folder the names in it; nothing else does. A file
whose name was synced and whose bytes were not is empty. Written in Python over ``os.fsync``: what C libraries sync by
themselves does not count, so the law that is tested with it asks for more than it needs to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

#: What is on the disk: of each file its bytes, of each folder the number of what each name stands for.
Durable = tuple[dict[int, bytes], dict[int, dict[str, int]]]


class Disk:
    """Watches a folder from now on; `moments` holds what was on the disk at the beginning and after each sync."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._number = root.stat().st_ino
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {}
        self._new: set[int] = set()
        self._held: list[int] = []  # open, so that their numbers are given to no others
        for path in (root, *root.rglob("*")):
            self._take(os.open(path, os.O_RDONLY))
        self.moments: list[Durable] = [self._now()]
        self._real: Callable[[int], None] = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def _fsync(self, descriptor: int) -> None:
        self._real(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.is_relative_to(self.root):
            self._take(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY))
            self.moments.append(self._now())

    def _take(self, descriptor: int) -> None:
        self._held.append(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(descriptor) as entries:
                children = list(entries)
            self._folders[status.st_ino] = {e.name: e.inode() for e in children}
            # One that was made and not synced itself is there, and empty.
            folders = {e.inode() for e in children if e.is_dir(follow_symlinks=False)}
            # A file may have the number of a folder that was removed.
            self._new = (self._new - {e.inode() for e in children}) | folders
        else:
            self._new.discard(status.st_ino)
            self._folders.pop(status.st_ino, None)
            self._files[status.st_ino] = os.pread(descriptor, status.st_size, 0)

    def _now(self) -> Durable:
        return dict(self._files), dict(self._folders)

    def after_cut(self, moment: int, folder: Path) -> Path:
        """Write into a new folder what a cut at a moment leaves of the one that is watched; return it."""
        self._write(self.moments[moment], self._number, folder)
        return folder

    def left(self, moment: int) -> dict[str, bytes]:
        """Return the files that a cut at a moment leaves, by path: without writing them, where they are large."""
        files, folders = self.moments[moment]
        found: dict[str, bytes] = {}
        below = [("", self._number)]
        while below:
            place, number = below.pop()
            for name, child in folders.get(number, {}).items():
                if child in folders or child in self._new:
                    below.append((f"{place}{name}/", child))
                else:
                    found[f"{place}{name}"] = files.get(child, b"")
        return found

    def _write(self, durable: Durable, number: int, path: Path) -> None:
        files, folders = durable
        path.mkdir()
        for name, child in folders.get(number, {}).items():
            if child in folders or child in self._new:
                self._write(durable, child, path / name)
            else:
                (path / name).write_bytes(files.get(child, b""))
