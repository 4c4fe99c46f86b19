from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_payloads import bare_payload, hostile_payload, metrics_payload, small_payload

from dino_detector.analysis.report.page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAYLOADS: dict[str, dict[str, Any]] = {
    "hostile": hostile_payload(),
    "small": small_payload(),
    "metrics": metrics_payload(),
    "bare": bare_payload(),
}


@pytest.fixture(scope="session")
def payloads() -> dict[str, dict[str, Any]]:
    return PAYLOADS


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the page of each payload."""
    folder = tmp_path_factory.mktemp("reports")
    for name, payload in PAYLOADS.items():
        write_report(payload, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in PAYLOADS}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium, driven through its DevTools protocol."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium to look at the page with: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_report(browser: Browser, reports: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Open the page of a payload; at the end no page may have logged an error, opened a dialog or sent a request."""
    contexts, problems = [], []

    def open_page(name: str, *, width: int = 1280, height: int = 900, **settings: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        address = reports[name].as_uri()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((address, "data:")) else problems.append(f"request: {request.url}")
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
