"""A real browser for tests, in one way: quiet, without the network, and with WebGL by software."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
_BROWSER = next((p for n in ("chromium", "google-chrome", "chromium-browser") if (p := shutil.which(n))), None)
needs_browser = pytest.mark.skipif(_BROWSER is None, reason="there is no Chromium")
#: Keep the browser from looking for its maker's hosts at every start; CI has no graphics card.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def started_browser() -> Iterator[Any]:
    """Start Chromium, and close it at the end."""
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=_BROWSER, args=list(_FLAGS))
        yield started
        started.close()
