"""A real browser for tests; they are skipped where there is none."""

from __future__ import annotations

import pytest
from headless import BROWSER, started_browser

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
__all__ = ["needs_browser", "started_browser"]
