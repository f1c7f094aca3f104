"""A headless Chromium, in one way for tests and benchmarks: quiet, without the network, with WebGL by software."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Path of the browser; None if there is none.
BROWSER = next((p for n in ("chromium", "google-chrome", "chromium-browser") if (p := shutil.which(n))), None)
#: Keep the browser from looking for its maker's hosts at every start; a machine for tests has no graphics card.
FLAGS = (
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
def started_browser(*more: str) -> Iterator[Any]:
    """Start Chromium, with further flags, and close it at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        started = p.chromium.launch(executable_path=BROWSER, args=[*FLAGS, *more])
        yield started
        started.close()
