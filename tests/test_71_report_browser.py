"""The report in a real browser: nothing fails, nothing is fetched, all images load, at any width and on paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, started_browser

from floemap.report.report import Report

pytestmark = needs_browser
WIDTHS = {"desk": 1280, "tablet": 800, "phone": 390}


Opened = tuple[Any, list[str], list[str]]


@pytest.fixture(scope="module")
def report(reported: tuple[Path, Report]) -> Report:
    return reported[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as started:
        yield started


@pytest.fixture(params=WIDTHS, name="opened")
def opened_page(request: pytest.FixtureRequest, browser: Any, report: Report) -> Iterator[Opened]:
    """The page, what its console said, and what it asked for."""
    page = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda call: asked.append(call.url))
    page.goto(report.page.as_uri())
    yield page, said, asked
    page.close()


def test_it_opens_without_a_word_and_asks_for_nothing(opened: Opened, report: Report) -> None:
    page, said, asked = opened
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.page.as_uri()]
    assert page.title().startswith("SIMULATED")


def test_all_images_load(opened: Opened) -> None:
    page, *_ = opened
    sizes = page.evaluate(
        "() => Promise.all([...document.images].map(i => i.decode().then(() => [i.naturalWidth, i.clientWidth])))"
    )
    assert len(sizes) > 20
    assert all(natural > 0 and shown > 0 for natural, shown in sizes)


def test_nothing_runs_over_the_edge(opened: Opened) -> None:
    """Wide tables and diagrams scroll by themselves; the page does not."""
    page, *_ = opened
    width, inside = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= inside


def test_a_long_name_in_the_definitions_breaks(browser: Any) -> None:
    """Names of products and hashes in the page of changes have no place to break."""
    css = (files("floemap.report") / "templates/report.css").read_text(encoding="utf-8")
    page = browser.new_page(viewport={"width": WIDTHS["phone"], "height": 900})
    page.set_content(
        f"<style>{css}</style><main class='wide'><dl class='defs'><dt>product</dt><dd>{'S1A_EW' * 20}</dd></dl></main>"
    )
    assert page.evaluate("() => document.documentElement.scrollWidth") <= WIDTHS["phone"]
    page.close()


def test_a_map_can_be_enlarged_by_keyboard(opened: Opened) -> None:
    page, said, _ = opened
    button = page.locator(".panel button").first
    before = button.locator("img").bounding_box()["width"]
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog[open] img")
    large.wait_for()
    assert large.bounding_box()["width"] > 0.9 * min(before, page.viewport_size["width"])
    assert large.get_attribute("alt") == button.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert said == []


def test_rows_can_be_read_on_a_phone(browser: Any, report: Report) -> None:
    """Where columns have no room, each number says whose it is."""
    page = browser.new_page(viewport={"width": WIDTHS["phone"], "height": 900})
    page.goto(report.page.as_uri())
    shown = page.evaluate("() => getComputedStyle(document.querySelector('td.number'), '::before').content")
    assert shown == '"Cross-entropy"'
    page.close()


def test_every_printed_page_says_that_it_is_simulated(browser: Any, report: Report, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(report.page.as_uri())
    paper = tmp_path / "report.pdf"
    page.pdf(path=str(paper), prefer_css_page_size=True)
    page.close()
    assert paper.read_bytes().startswith(b"%PDF")
    if shutil.which("pdftotext") is None:
        pytest.skip("there is no pdftotext")
    text = subprocess.run(["pdftotext", str(paper), "-"], capture_output=True, text=True, check=True).stdout
    pages = text.split("\f")[:-1]
    assert len(pages) > 5
    assert all("SIMULATED" in words for words in pages)
