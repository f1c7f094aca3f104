"""Follow docs/analysts.md word by word in an empty folder, and make its pictures: ``python docs/guide.py FOLDER``.

The pictures go to docs/images. They need playwright, Chromium and pdftoppm. What opens windows is left out: QGIS, and
the browser, for which the map is exported instead.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "analysts.md"
#: The folder that shows the map without a server's process staying.
MAP = "map"
FLOEMAP = str(Path(sys.executable).with_name("floemap"))


def steps() -> Iterator[tuple[str, str]]:
    """Language and text of each block of the page, in order; commands have the language ""."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)


def command_of(text: str) -> list[str] | None:
    """Words of a command of the page, without a window; None where nothing but a window is asked for."""
    words = shlex.split(text)
    if words[0] != "floemap":
        return None
    return [*words[1:], "--export", MAP] if words[1] == "view" else words[1:]


def follow(folder: Path, language: str, text: str) -> None:
    """Do one step in `folder`."""
    if language == "json":
        (folder / "route.geojson").write_text(text, encoding="utf-8")
    elif language == "python":
        subprocess.run([sys.executable, "-c", text], cwd=folder, check=True)
    elif words := command_of(text):
        subprocess.run([FLOEMAP, *words], cwd=folder, check=True)


def draw(folder: Path, images: Path) -> None:
    """Make the pictures of the page from the results in `folder`."""
    images.mkdir(exist_ok=True)
    (page,) = folder.glob("published/*/*.pdf")
    subprocess.run(
        ["pdftoppm", "-png", "-r", "80", "-singlefile", str(page), str(images / "guide_page")],
        check=True,
    )
    for name, found in {"guide_bundle": "for_ship/*/*.png", "guide_route": "route/**/*.png"}.items():
        (picture,) = folder.glob(found)
        shutil.copyfile(picture, images / f"{name}.png")
    photograph(folder / "charts", images / "guide_map.jpg")


def photograph(charts: Path, picture: Path) -> None:
    """Take the picture of the map of a folder of charts, at the first place to review, with its polygon's egg."""
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    from headless import started_browser

    server = subprocess.Popen([FLOEMAP, "view", str(charts), "--no-open"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    try:
        with started_browser() as browser:
            page: Any = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            page.wait_for_selector("html[data-drawn]", state="attached")
            page.keyboard.press("n")
            page.wait_for_timeout(3000)
            page.screenshot(path=str(picture), type="jpeg", quality=85, timeout=300_000)
    finally:
        server.kill()


def main() -> None:
    """Follow the page, say how long each command takes, and make the pictures."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    for language, text in steps():
        begun = time.monotonic()
        follow(folder, language, text)
        sys.stderr.write(f"{time.monotonic() - begun:6.1f} s  {text.splitlines()[0][:80]}\n")
    draw(folder, DOCS / "images")


if __name__ == "__main__":
    main()
