"""The map in a browser: time to the first picture of a full scene, frames while zooming, memory of the page.

    python benchmarks/view.py [--charts FOLDER] [--scenes 200] [--runs 3] [--picture FILE]

Without --charts, a full-size product (10708 x 10487, two polarisations) is simulated and charted with drawn weights,
whose polygons are as many as ice has, and mean nothing. The browser is a headless Chromium that draws WebGL by
software, in a window of 1280 x 800. The page is zoomed by a wheel that turns in every frame, in to the pixels and out
again, at the middle of the scene. Most of a frame is drawing by software, which a graphics card does in its own time;
what the page's own scripts take of it, by the browser's profiler, is what is left to wait for there, and is compared
with the 16.7 ms between two frames at 60 Hz.

With --scenes, each result is there so many times, as that of another scene twelve hours later: hard links, and records
with another name and time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from headless import started_browser
from prepare import CLI, fresh, simulate
from product import drawn_model

FIRST_S, FRAME_MS = 2.0, 1000 / 60
#: What the profiler counts where no script runs: the browser's own work, and waiting.
NO_SCRIPT = ("(root)", "(program)", "(idle)")
#: Turns the wheel in each frame: `steps` towards the map, the same back, three times.
ZOOM = """
async steps => {
  const port = document.querySelector('.map .ol-viewport'), box = port.getBoundingClientRect();
  const frames = [];
  const frame = () => new Promise(done => requestAnimationFrame(done));
  for (let i = 0; i < 6 * steps; i++) {
    const deltaY = Math.floor(i / steps) % 2 ? 40 : -40;
    const where = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
    port.dispatchEvent(new WheelEvent('wheel', {deltaY, ...where, bubbles: true, cancelable: true}));
    frames.push(await frame());
  }
  return {frames, heap: performance.memory.usedJSHeapSize};
}
"""


def multiplied(folder: Path, scenes: int, out: Path) -> Path:
    """Return a folder with the results in a folder and below it, of so many scenes."""
    for record in [p for name in ("product.json", "chart.json") for p in sorted(folder.rglob(name))]:
        told = json.loads(record.read_bytes())
        name, first = told["scene"]["name"], datetime.fromisoformat(told["scene"]["start"])
        for number in range(scenes):
            told["scene"] |= {
                "name": f"{name}_{number:04}",
                "start": (first + number * timedelta(hours=12)).isoformat(),
            }
            place = out / record.stem / f"{record.parent.name}_{number:04}"
            shutil.copytree(record.parent, place, copy_function=linked)
            (place / record.name).unlink()
            (place / record.name).write_text(json.dumps(told, indent=2))
    return out


def linked(source: str, target: str) -> None:
    """Make a hard link, or a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Serve a folder by the command; give the page's address, and the seconds and those of the processor until then."""
    began = time.perf_counter()
    call = [sys.executable, "-c", CLI, "view", str(folder), "--no-open", "--quiet"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[-1]
            spent = psutil.Process(process.pid).cpu_times()
            yield url, time.perf_counter() - began, spent.user + spent.system
        finally:
            process.terminate()


def browsers_gib() -> float:
    """Return the proportional memory of all processes of the browser."""
    children = psutil.Process().children(recursive=True)
    return sum(p.memory_full_info().pss for p in children if "chrom" in p.name()) / 2**30


def shown(browser: Any, url: str) -> tuple[Any, float]:
    """Open the page; return it, and the seconds until the first picture is drawn whole, by the clock of the page."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(url)
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
    return page, page.evaluate("performance.getEntriesByName('first-picture')[0].startTime") / 1e3


def zoomed(page: Any, steps: int) -> tuple[dict[str, Any], float]:
    """Zoom; return times of frames and memory, and milliseconds of the page's scripts in all of them."""
    tools = page.context.new_cdp_session(page)
    tools.send("Profiler.enable")
    tools.send("Profiler.start")
    found = page.evaluate(ZOOM, steps)
    profile = tools.send("Profiler.stop")["profile"]
    what = {n["id"]: n["callFrame"]["functionName"] for n in profile["nodes"]}
    spent = zip(profile["samples"], profile["timeDeltas"], strict=True)
    return found, sum(us for node, us in spent if what[node] not in NO_SCRIPT) / 1e3


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charts", type=Path, help="what `floemap view` is to show, instead of a simulated chart")
    parser.add_argument("--scenes", type=int, default=1, help="as how many scenes each result is shown")
    parser.add_argument("--runs", type=int, default=3, help="times to open the page")
    parser.add_argument("--steps", type=int, default=60, help="frames of zooming in, and out, three times each")
    parser.add_argument("--picture", type=Path, help="write the last picture of the page to this PNG")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started_browser("--enable-precise-memory-info") as browser:
        work, charts = Path(folder), options.charts
        if charts is None:
            product, charts = simulate(work), work / "charts"
            model = drawn_model(product, work)
            fresh(CLI, "chart", str(product), "--quiet", "--model", str(model), "--out", str(charts))
        if options.scenes > 1:
            charts = multiplied(charts, options.scenes, work / "scenes")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Chromium {browser.version}, WebGL by software")
        first, page = [], None
        for _ in range(options.runs):
            if page is not None:
                page.close()
            with served(charts) as (url, started, spent):
                page, drawn = shown(browser, url)
                first.append((started, drawn, spent))
                if len(first) == options.runs:
                    before = browsers_gib()
                    found, script = zoomed(page, options.steps)
                    after = browsers_gib()
                    if options.picture:
                        page.screenshot(path=str(options.picture))
        started, drawn, _ = min(first, key=lambda one: one[0] + one[1])
        spent = sorted(one[2] for one in first)[len(first) // 2]
        print(
            f"from the call to the server's answer {started:.2f} s, {spent:.2f} s of the processor; "
            f"from there to the whole first picture {drawn:.2f} s"
        )
        print(f"  aim for the picture {FIRST_S:g} s: {'met' if drawn <= FIRST_S else 'MISSED'}")
        ms = np.diff(found["frames"])
        low, mid, high = np.percentile(ms, [5, 50, 95])
        print(
            f"zooming, {len(ms)} frames: median {mid:.0f} ms, 5 to 95 % {low:.0f} to {high:.0f}, most {ms.max():.0f} ms"
        )
        each = script / len(ms)
        print(f"  of it scripts {each:.1f} ms, {each / FRAME_MS:.2f} times what is between frames at 60 Hz")
        heap = found["heap"] / 2**20
        print(
            f"memory of the browser {before:.2f} GiB, after zooming {after:.2f} GiB, of it {heap:.0f} MiB JavaScript's"
        )
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
