"""`make screenshots`: starts the product on a fresh database and takes the pictures that the README shows.

The moment is the same each time: an hour and a half after the demonstration's start the guard has killed the runaway, a
pin has come and gone and a surge is being served; then virtual time is paused, so that all pictures tell of one moment.
Usage: python -m tests.browser.screenshots [FOLDER]
"""

import re
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.chromium import NoChromium, chromium
from tests.browser.product import ROOT, Product, running
from tests.browser.room import Room

FOLDER = ROOT / "docs" / "screenshots"
SIZE: ViewportSize = {"width": 1440, "height": 900}
MOST_BYTES = 400_000
RUNAWAY = "Seamless tile search, all seeds"
PIN_AT = datetime(2024, 11, 25, 6, 20, tzinfo=UTC)
SURGE_AT = datetime(2024, 11, 25, 7, 18, tzinfo=UTC)
PAUSE_AT = datetime(2024, 11, 25, 7, 36, tzinfo=UTC)
LIGHT = ("fleet", "envelope", "forecast", "scaling", "decision", "guardrails", "ledger")
DARK = ("fleet", "forecast", "scaling")


def operate(room: Room, product: Product) -> None:
    """What a person does meanwhile, so that no page is empty: a pin that ends by itself, a surge; then time stops."""
    _until(product, PIN_AT)
    room.enter("Scaling")
    room.button("Override").click()
    dialog = room.dialog("Override images?")
    room.pick(dialog, "Ends in", "30 min")
    pin = dialog.get_by_role("button", name=re.compile(r"^Pin \d+ replicas$"))
    room.confirm(dialog, pin.inner_text(), "Launch of the spring collection")
    room.enter("Fleet")
    _until(product, SURGE_AT)
    room.press_demo("Inject a surge", "Surge")
    _until(product, PAUSE_AT)
    killed = [job for job in product.api("/v1/jobs?state=killed") if job["name"] == RUNAWAY]
    assert killed, "the guard has not killed the runaway"
    room.press_demo("Pause", "Pause of the clock")
    expect(room.head).to_contain_text("paused")


def shoot(room: Room, product: Product, name: str, file: Path) -> None:
    """One picture of a page at rest."""
    page = room.page
    if name == "decision":
        page.goto(f"{room.url}/scaling?plan={_scale_out(product)}")
        expect(room.card("why")).to_be_visible()
    else:
        room.enter(name.capitalize())
    _at_rest(page)
    page.screenshot(path=file, animations="disabled", caret="hide")
    size = file.stat().st_size
    assert size < MOST_BYTES, f"{file} has {size:,} bytes"
    print(f"{file}  {size / 1000:.0f} kB", flush=True)


def _scale_out(product: Product) -> str:
    """The newest decision that grew the fleet and was carried out."""
    newest_first = product.api("/v1/plans")["items"]
    for plan, before in pairwise(newest_first):
        if plan["desired"] > before["desired"] and plan["action_count"]:
            return str(plan["id"])
    return str(newest_first[0]["id"])


def _at_rest(page: Page) -> None:
    """Waits until charts are drawn, nothing loads and no message is up."""
    page.wait_for_function(
        "[...document.querySelectorAll('.hd-plot')].every(one => one.dataset.drawn)"
        " && !document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner], [data-testid=stToast]')"
        " && document.fonts.status === 'loaded'"
    )
    page.mouse.move(720, 5)
    page.wait_for_timeout(1500)


def _until(product: Product, moment: datetime) -> None:
    deadline = time.monotonic() + 3600
    while datetime.fromisoformat(product.api("/v1/status")["now"]) < moment:
        assert time.monotonic() < deadline, f"virtual time does not come to {moment}"
        time.sleep(0.1)


def main(folder: Path) -> None:
    """All pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        chromium() as browser,
        tempfile.TemporaryDirectory() as place,
        running(Path(place), warmup_hours=24) as product,
    ):
        operate(_room(browser, product, dark=False), product)
        for names, dark in ((LIGHT, False), (DARK, True)):
            room = _room(browser, product, dark)
            for name in names:
                shoot(room, product, name, folder / f"{name}{'-dark' if dark else ''}.png")


def _room(browser: Browser, product: Product, dark: bool) -> Room:
    context = browser.new_context(viewport=SIZE, color_scheme="dark" if dark else "light")
    context.set_default_timeout(120_000)
    return Room(context.new_page(), product.url)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
    except NoChromium as missing:
        sys.exit(str(missing))
