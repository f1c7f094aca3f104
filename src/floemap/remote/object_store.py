"""Files in object stores: listed, and their addresses signed, by GDAL, which finds the account.

GDAL looks for credentials in the order that its manual gives for each store ("Network based file systems"): settings of
the environment, files of the store's own tools, and the service that a machine in the cloud asks. floemap neither reads
nor keeps them. rasterio brings GDAL but does not pass on its functions for files; they are called in the library that
rasterio has loaded.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from floemap.errors import DownloadError
from floemap.remote.address import Address

#: Seconds for which a signed address is valid: long enough for a product over a slow line.
_VALID_S = 6 * 3600
#: Most files that a folder may contain.
_MOST_FILES = 1_000_000
#: Bounds of each of GDAL's requests, in seconds.
_BOUNDS = {
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
#: Settings by which GDAL finds an account, of each store.
_SETTINGS = {
    "s3": "AWS_PROFILE, AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, GS_ACCESS_KEY_ID",
    "az": "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCOUNT",
}
_FOLDER_BIT = 0o040000


@dataclass(frozen=True)
class StoredFile:
    """A file in an object store.

    Attributes
    ----------
    inside
        Its path in the folder that was listed, with forward slashes.
    size
        Size in bytes.
    changed
        Time of the latest change, seconds since 1970.
    """

    inside: str
    size: int
    changed: int


class _Entry(ctypes.Structure):
    """The beginning of GDAL's VSIDIREntry (cpl_vsi.h)."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("mode", ctypes.c_int),
        ("size", ctypes.c_uint64),
        ("changed", ctypes.c_int64),
    )


def list_files(folder: Address) -> list[StoredFile]:
    """Return the files in a folder of an object store and below it, by name.

    Raises
    ------
    DownloadError
        If the store does not list it.
    """
    with _gdal() as gdal:
        gdal.VSICurlPartialClearCache(folder.vsi.encode())
        directory = gdal.VSIOpenDir(folder.vsi.encode(), -1, None)
        if not directory:
            raise DownloadError(f"{folder} cannot be listed.", hint=_hint(folder))
        found = []
        try:
            while entry := gdal.VSIGetNextDirEntry(directory):
                e = entry.contents
                if not e.mode & _FOLDER_BIT:
                    found.append(StoredFile(e.name.decode("utf-8", "surrogateescape"), e.size, e.changed))
                if len(found) > _MOST_FILES:
                    raise DownloadError(f"{folder} contains over {_MOST_FILES} files.", hint="Give a folder within it.")
        finally:
            gdal.VSICloseDir(directory)
    return sorted(found, key=lambda f: f.inside)


def signed_url(file: Address) -> str:
    """Return the web address of a file in an object store, signed with the account that GDAL finds. It is a secret.

    Where GDAL is set to sign nothing, as for public buckets, the address is not signed.

    Raises
    ------
    DownloadError
        If GDAL finds no account that can sign.
    """
    options = (ctypes.c_char_p * 2)(f"EXPIRATION_DELAY={_VALID_S}".encode(), None)
    with _gdal() as gdal:
        found = gdal.VSIGetSignedURL(file.vsi.encode(), options)
        if not found:
            if file.scheme == "gs" and gdal.CPLTestBool(gdal.CPLGetConfigOption(b"GS_NO_SIGN_REQUEST", b"NO")):
                return str(gdal.VSIGetActualURL(file.vsi.encode()).decode())
            raise DownloadError(
                f"{file} cannot be read: GDAL finds no account that can sign its address.", hint=_hint(file)
            )
        url = ctypes.string_at(found).decode()
        gdal.VSIFree(found)
    # Without an account, as for public buckets, GDAL signs with an empty name, which stores refuse.
    return url.partition("?")[0] if "X-Amz-Credential=%2F" in url else url


def _hint(address: Address) -> str:
    found_by = _SETTINGS[address.scheme]
    return f"Check the address, and that GDAL finds an account that may read it ({found_by} and the like)."


@contextmanager
def _gdal() -> Iterator[Any]:
    """Give GDAL's functions, bounded in time. Its messages are dropped, because they may quote names of accounts."""
    gdal = _functions()
    gdal.CPLPushErrorHandler(ctypes.cast(gdal.CPLQuietErrorHandler, ctypes.c_void_p))
    before = {key: gdal.CPLGetThreadLocalConfigOption(key.encode(), None) for key in _BOUNDS}
    for key, value in _BOUNDS.items():
        if gdal.CPLGetConfigOption(key.encode(), None) is None:
            gdal.CPLSetThreadLocalConfigOption(key.encode(), value.encode())
    try:
        yield gdal
    finally:
        for key, earlier in before.items():
            gdal.CPLSetThreadLocalConfigOption(key.encode(), earlier)
        gdal.CPLPopErrorHandler()


@functools.cache
def _functions() -> Any:
    import rasterio._env

    gdal = ctypes.CDLL(rasterio._env.__file__)  # finds the functions in the libraries that this one has loaded
    text, pointer = ctypes.c_char_p, ctypes.c_void_p
    for name, result, arguments in (
        ("VSIOpenDir", pointer, (text, ctypes.c_int, pointer)),
        ("VSIGetNextDirEntry", ctypes.POINTER(_Entry), (pointer,)),
        ("VSICloseDir", None, (pointer,)),
        ("VSIGetSignedURL", pointer, (text, pointer)),
        ("VSIFree", None, (pointer,)),
        ("VSICurlPartialClearCache", None, (text,)),
        ("CPLPushErrorHandler", None, (pointer,)),
        ("CPLPopErrorHandler", None, ()),
        ("CPLTestBool", ctypes.c_int, (text,)),
        ("VSIGetActualURL", text, (text,)),
        ("CPLGetConfigOption", text, (text, text)),
        ("CPLGetThreadLocalConfigOption", text, (text, text)),
        ("CPLSetThreadLocalConfigOption", None, (text, text)),
    ):
        function = getattr(gdal, name)
        function.restype, function.argtypes = result, arguments
    return gdal
