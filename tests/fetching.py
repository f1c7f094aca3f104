"""Fetching from the loopback server: what the tests of it share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopback import PASSWORD, USER, Loopback

from floemap.datasets.download.copernicus import Account
from floemap.datasets.download.http import Services
from floemap.datasets.extremeearth.fetch import fetch_extremeearth
from floemap.datasets.extremeearth.inventory import Inventory

ACCOUNT = Account(USER, PASSWORD)
MONTHS = (1, 2)


def fetch(server: Loopback, out: Path, **options: Any) -> Inventory:
    """Fetch the dataset of two months, without waiting."""
    given: dict[str, Any] = {"months": MONTHS, "account": ACCOUNT, "sleep": lambda s: None} | options
    return fetch_extremeearth(out, services=Services.at(server.url), **given)


def names(folder: Path) -> set[str]:
    """Names of all files below a folder."""
    return {p.name for p in folder.rglob("*") if p.is_file()}
