"""Check the built pages: ``python docs/check_site.py build/docs``; ``make docs`` runs it.

Nothing that a page needs comes from elsewhere, and the search answers when the pages are opened from a folder. The
search is tried where Chromium is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads at once, by element: the attribute with the address. A <link> is loaded if it is one of LOADED.
ADDRESSES = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
LOADED = {"stylesheet", "icon", "preload", "modulepreload"}


class _Needs(HTMLParser):
    """Addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(ADDRESSES.get(tag, ""))
        if address and (tag != "link" or LOADED & set((given.get("rel") or "").split())):
            self.addresses.append(address)


def missing(site: Path) -> list[str]:
    """What pages load from elsewhere, or from where nothing is."""
    faults = []
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # a server's page, with addresses from the server's root
            continue
        needs = _Needs()
        needs.feed(page.read_text(encoding="utf-8"))
        for address in needs.addresses:
            parts = urlsplit(address)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc or not (page.parent / unquote(parts.path)).is_file():
                faults.append(f"{page.relative_to(site)} loads {address}")
    return faults


def found(site: Path, word: str, browser: str, flags: Sequence[str]) -> int:
    """How many pages the search from the folder finds for a word, without a network."""
    quiet = ["--headless=new", *flags, "--host-resolver-rules=MAP * ~NOTFOUND"]
    page = (site / "howto" / "ships.html").resolve().as_uri() + f"?q={word}"
    shown = subprocess.run(
        [browser, *quiet, "--virtual-time-budget=15000", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    count = re.search(r"(\d+) matching document", shown)
    return int(count[1]) if count else 0


def main() -> None:
    """Say what is wrong, and exit with 1 then."""
    site = Path(sys.argv[1])
    faults = missing(site)
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from headless import BROWSER, FLAGS

    if BROWSER is None:
        sys.stderr.write("Chromium is not installed: the search of the pages was not tried\n")
    elif not found(site, "incidence", BROWSER, FLAGS):
        faults.append("the search from the folder finds nothing for “incidence”")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
