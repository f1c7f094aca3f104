"""A server on loopback in a process of its own, which notes every request: for readers that hold Python's lock."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_SERVER = """
import http.server, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[1], "a") as seen:
            seen.write(self.path + "\\n")
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
part = pathlib.Path(sys.argv[1] + ".part")
part.write_text(str(server.server_port))
part.rename(sys.argv[1] + ".port")
server.serve_forever()
"""


class Listener:
    """The server, while the block runs."""

    def __init__(self, folder: Path) -> None:
        self._seen = folder / "requests"

    def __enter__(self) -> Listener:
        self._process = subprocess.Popen([sys.executable, "-c", _SERVER, str(self._seen)])
        port = Path(f"{self._seen}.port")
        while not port.exists():
            assert self._process.poll() is None
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port.read_text()}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def requests(self) -> list[str]:
        """Return the paths that were asked for since the last call."""
        seen = self._seen.read_text().split() if self._seen.exists() else []
        self._seen.unlink(missing_ok=True)
        return seen
