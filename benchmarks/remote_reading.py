"""Times a product's pixels from a server: copied and read from the disk, or read in place by GDAL.

A server on loopback waits `latency` seconds before each answer. In place the pixels are read once, although floemap
reads them twice, for the checksum and for the bands: its times are a lower bound.

    python benchmarks/remote_reading.py FOLDER
"""

from __future__ import annotations

import functools
import multiprocessing
import re
import sys
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from floemap.cog import without_georeference
from floemap.datasets.download.file import RemoteFile, download
from floemap.datasets.download.http import Web

ROWS, COLS = 4000, 8000
MEMBER = "S.SAFE/measurement/pixels.tiff"


class Handler(BaseHTTPRequestHandler):
    """Answers ranges of the files in a folder."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, latency_s: float, *args: Any) -> None:
        self.folder, self.latency_s = folder, latency_s
        super().__init__(*args)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        time.sleep(self.latency_s)
        path = self.folder / self.path.strip("/")
        size = path.stat().st_size if path.is_file() else 0
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
        self.send_response((206 if asked else 200) if size else 404)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command == "GET" and size:
            with path.open("rb") as file:
                file.seek(first)
                for at in range(first, last + 1, 1 << 20):
                    self.wfile.write(file.read(min(1 << 20, last + 1 - at)))

    def do_HEAD(self) -> None:
        self.do_GET()


def serve(folder: Path, latency_s: float, port: Synchronized[int]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, folder, latency_s))
    port.value = server.server_port
    server.serve_forever()


def read(name: str) -> None:
    with rasterio.open(name) as d:
        for row in range(0, ROWS, 500):
            d.read(1, window=((row, row + 500), (0, COLS)))


def make(folder: Path) -> list[Path]:
    tiff, archive = folder / "pixels.tiff", folder / "product.zip"
    pixels = np.random.default_rng(0).gamma(2, 60, (ROWS, COLS)).astype(np.uint16)
    options = {"height": ROWS, "width": COLS, "count": 1, "dtype": "uint16", "blockysize": 1}
    with rasterio.open(tiff, "w", driver="GTiff", **options) as d:
        d.write(pixels, 1)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.write(tiff, MEMBER)
    return [tiff, archive]


def copied(file: Path, base: str, folder: Path) -> None:
    size = file.stat().st_size
    with Web() as web:
        copy = download(RemoteFile(file.name, f"{base}/{file.name}", size, None, size), folder / "copy", web)
    read(named(file, str(copy.resolve())))
    copy.unlink()


def named(file: Path, name: str) -> str:
    return f"/vsizip/{{{name}}}/{MEMBER}" if file.suffix == ".zip" else name


def in_place(file: Path, base: str, chunk: int) -> None:
    options = {"CPL_VSIL_CURL_CHUNK_SIZE": chunk, "CPL_VSIL_CURL_CACHE_SIZE": 128 << 20}
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", CPL_VSIL_CURL_NON_CACHED=f"/vsicurl/{base}", **options):
        read(named(file, f"/vsicurl/{base}/{file.name}"))


def main(folder: Path) -> None:
    with without_georeference():
        files = make(folder)
        for latency_s in (0.0, 0.05):
            port: Any = multiprocessing.Value("i", 0)
            server = multiprocessing.Process(target=serve, args=(folder, latency_s, port), daemon=True)
            server.start()
            while not port.value:
                time.sleep(0.01)
            base = f"http://127.0.0.1:{port.value}"
            for file in files:
                ways = {"copied": functools.partial(copied, file, base, folder)}
                ways |= {
                    f"in place, {c >> 10} kB": functools.partial(in_place, file, base, c) for c in (1 << 14, 10 << 20)
                }
                for way, work in ways.items():
                    begun = time.perf_counter()
                    work()
                    print(f"{latency_s:g} s, {file.name}, {way}: {time.perf_counter() - begun:.2f} s", flush=True)
            server.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
