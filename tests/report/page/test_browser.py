"""A report in a real browser without a window: Chromium, Chrome or Edge on PATH, or what DATANAS_TEST_BROWSER names.

It takes playwright for Python, which needs no browser of its own, and vl-convert-python; all are skipped without these.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datanas.report.page.write import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
BROWSER = os.environ.get("DATANAS_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser on PATH, and DATANAS_TEST_BROWSER names none")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1100, "height": 900}


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "report.html"
    written = write_report([finished / "found", finished / "trained", finished / "plain"], target)
    assert written.notes == []
    assert written.size < 2_000_000
    return written.path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as program:
        started = program.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """Opens the report, and holds that the browser has no complaint and fetches nothing."""
    contexts, complaints = [], []

    def open_page(scheme: str = "light", viewport: dict[str, int] = DESK) -> Any:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.clock.install()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if is_local(request.url, report) else complaints.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-drawn]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def is_local(url: str, report: Path) -> bool:
    return url == report.as_uri() or url.startswith("data:")


FILLS = """() => [...document.querySelector(".maps .plot").querySelectorAll(".mark-rect path")]
    .map(x => x.getAttribute("fill")).join()"""
"""The colours of the first heat map."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_every_chart_is_drawn_and_nothing_is_wider_than_the_screen(opened: Any, scheme: str, viewport: Any) -> None:
    page = opened(scheme, viewport)
    plots, drawn = page.locator(".plot").count(), page.locator(".plot svg.marks").count()
    assert plots == drawn > 10
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_what_is_said_above_a_table_and_in_a_legend_is_whole_on_a_phone(opened: Any) -> None:
    page = opened(viewport=PHONE)
    ends = "xs => xs.map(x => x.getBoundingClientRect().right)"
    for what in ("caption", ".plot svg.marks .role-legend-label text"):
        found = page.locator(what).evaluate_all(ends)
        assert found
        assert max(found) <= PHONE["width"]


def test_a_dark_page_has_light_ink_in_its_charts_too(opened: Any) -> None:
    ink = {}
    for scheme in ("light", "dark"):
        page = opened(scheme)
        colour = page.locator(".plot svg.marks text").first.evaluate("x => getComputedStyle(x).fill")
        ink[scheme] = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    assert max(ink["light"]) < 90
    assert min(ink["dark"]) > 180


def test_the_slider_moves_p_and_the_cell_by_keyboard(opened: Any) -> None:
    page = opened()
    slider, said = page.locator("input[type=range]"), page.locator("output")
    assert said.inner_text().startswith("epoch 2: ")
    before = page.evaluate(FILLS)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert said.inner_text().startswith("epoch 1: ")
    assert slider.get_attribute("aria-valuetext") == said.inner_text()
    page.wait_for_function(f"old => ({FILLS})() !== old", arg=before)
    assert page.locator(".frame:not([hidden])").get_attribute("data-index") == "0"


def test_play_runs_from_the_first_epoch_to_the_last_and_stops(opened: Any) -> None:
    page = opened()
    play, said = page.locator(".play"), page.locator("output")
    play.focus()
    page.keyboard.press("Enter")
    assert (play.inner_text(), said.inner_text().partition(":")[0]) == ("Stop", "epoch 1")
    page.clock.run_for(800)
    assert (play.inner_text(), said.inner_text().partition(":")[0]) == ("Play", "epoch 2")


def test_tables_sort_by_numbers_up_and_down_by_keyboard(opened: Any) -> None:
    page = opened()
    table = page.locator("#together table")
    head = table.locator("th", has_text="parameters").first
    values = "all => all.map(row => row.cells[5].dataset.key).filter(key => key).map(Number)"
    orders = []
    for _ in range(2):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        orders.append((head.get_attribute("aria-sort"), table.locator("tbody tr").evaluate_all(values)))
    (up, first), (down, second) = orders
    assert (up, down) == ("ascending", "descending")
    assert first == sorted(first)
    assert second == sorted(second, reverse=True)
    assert len(set(first)) == 2


def test_links_of_the_table_lead_to_the_runs(opened: Any) -> None:
    page = opened()
    page.locator("#together tbody a", has_text="plain").click()
    assert page.evaluate("location.hash") == "#run-3"


def test_printed_it_has_no_buttons_and_all_that_is_folded(opened: Any) -> None:
    page = opened()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator(".play").is_visible()
    assert page.locator("details:not([open])").count() == 0
