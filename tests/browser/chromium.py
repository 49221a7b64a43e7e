"""Which Chromium is driven, and how it is started."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

# Chromium speaks to nobody but the product; a container has no user namespaces and no GPU.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NONE_FOUND = (
    "no Chromium: install your system's, or run `.venv/bin/python -m playwright install chromium`, or name one with "
    "HEDDLE_CHROMIUM"
)


class NoChromium(Exception):
    """There is no Chromium to drive; the text says what to do."""


def executable(playwright: Playwright) -> str:
    """The Chromium of HEDDLE_CHROMIUM, else Playwright's own, else the system's. NoChromium without any."""
    named = os.environ.get("HEDDLE_CHROMIUM", "").strip()
    if named:
        found = shutil.which(named)
        if not found:
            raise NoChromium(f"HEDDLE_CHROMIUM={named}: there is no such program")
        return found
    own = playwright.chromium.executable_path
    if Path(own).is_file():
        return own
    for name in SYSTEM:
        found = shutil.which(name)
        if found:
            return found
    raise NoChromium(NONE_FOUND)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with an empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(playwright), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
