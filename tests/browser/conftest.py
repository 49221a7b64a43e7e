"""The product as a person has it: started by its launcher, looked at in a real Chromium."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.browser.chromium import NoChromium, chromium
from tests.browser.product import Product, running

HERE = Path(__file__).parent
# Streamlit asks below the page's own path before it finds its base path: two answers 404, on every page but the first.
HARMLESS = re.compile(r"/_stcore/(health|host-config)$")
PATIENCE_MS = 120_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is marked `browser`."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all; skipped without any, unless HEDDLE_REQUIRE_BROWSER=1."""
    try:
        with chromium() as found:
            yield found
    except NoChromium as missing:
        if os.environ.get("HEDDLE_REQUIRE_BROWSER") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def product(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A running product. After all tests Ctrl-C has to end it cleanly, with no process left."""
    with running(tmp_path_factory.mktemp("product"), warmup_hours=1) as product:
        yield product


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages with an empty profile each; a test fails on any complaint of theirs in the console."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not HARMLESS.search(message.location.get("url", "")):
            complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def make(width: int = 1440, height: int = 1000, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints, complaints


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """One page of an ordinary screen."""
    return new_page()
