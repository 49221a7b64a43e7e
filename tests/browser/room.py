"""The operators' room as a person uses it: pages by their name, tables by what they hold, dialogs by their title."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from playwright.sync_api import Locator, Page, expect

PAGES = ("Fleet", "Envelope", "What if", "Forecast", "Scaling", "Guardrails", "Ledger")
JOBS = "Jobs with burn, progress and projected cost"
EVENTS = "Guardrail events, newest first"
DECISIONS = "Scaling decisions, newest first, each with its reason"
ENTRIES = "Ledger entries, newest first"
REQUESTS = "Requests of operators and their status"
POOLS = "Replicas per offer: ready of desired, busy share and cost"
HISTORY = "Envelope versions, newest first"
RUNS = "Replays, newest first, with how far they are"
OVERRIDES = "All overrides, newest first"
# Bounds of waiting, not expectations: the machine may be slow and busy, and what comes earlier is taken earlier.
SOON_MS = 120_000
expect.set_options(timeout=SOON_MS)
_ROW_PX = 32

# Messages go after 4 s, which a slow machine may spend elsewhere: the page keeps all that it has shown.
_KEEP_MESSAGES = """
window.hdMessages = new Set();
new MutationObserver(() => {
  for (const one of document.querySelectorAll('[data-testid=stToast]')) window.hdMessages.add(one.textContent);
}).observe(document, {childList: true, subtree: true, characterData: true});
"""

# Canvas tables keep a table for screen readers inside the canvas.
_READ = """grids => grids.slice(0, 1).flatMap(grid => {
  const texts = (row, cell) => [...row.querySelectorAll(cell)].map(found => found.textContent);
  const names = texts(grid, 'thead th');
  return [...grid.querySelectorAll('tbody tr')].map(row => {
    const cells = texts(row, 'td');
    return Object.fromEntries(names.map((name, at) => [name, cells[at]]));
  });
})"""


class Room:
    """One page of a browser on one product."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        page.add_init_script(_KEEP_MESSAGES)

    def until(self, holds: Callable[[], object], what: Callable[[], object], within_ms: float = SOON_MS) -> None:
        """Looks again and again until it holds. AssertionError with `what` when it does not come to that."""
        for _ in range(max(1, int(within_ms / 250))):
            if holds():
                return
            self.page.wait_for_timeout(250)
        raise AssertionError(what())

    def enter(self, name: str = "Fleet", query: str = "") -> "Room":
        """Opens a page by its address; it is there when its heading and the strip are."""
        path = "" if name == "Fleet" else name.lower().replace(" ", "-")
        self.page.goto(f"{self.url}/{path}{query}")
        self._arrived(name)
        return self

    def go(self, name: str) -> "Room":
        """Goes to a page by the navigation."""
        self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        self._arrived(name)
        return self

    def _arrived(self, name: str) -> None:
        expect(self.page.get_by_role("heading", level=1, name=name, exact=True)).to_be_visible()
        expect(self.strip).to_be_visible()
        self.settled()

    def settled(self) -> None:
        """Waits until no run of the page is under way: elements of the last one are gone by then."""
        expect(self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()

    @property
    def strip(self) -> Locator:
        """The header strip: mode, status, envelope, spend."""
        return self.page.locator(".hd-strip")

    @property
    def badge(self) -> Locator:
        """The mode badge, at the left of the strip."""
        return self.page.locator(".st-key-strip-standing").get_by_role("button")

    def version(self) -> int:
        """The envelope's version, as the strip says it."""
        expect(self.strip).to_contain_text(re.compile(r"Envelope v\d"))
        found = re.search(r"Envelope v(\d+)", self.strip.inner_text())
        assert found, self.strip.inner_text()
        return int(found.group(1))

    @property
    def head(self) -> Locator:
        """The page's head: title, badge, virtual time."""
        return self.page.locator(".st-key-page-head")

    def now(self) -> datetime:
        """The virtual time that the badge shows."""
        expect(self.head).to_contain_text(re.compile(r"\d\d:\d\d UTC"))
        said = self.head.inner_text()
        found = re.search(r"\d+ \w{3} \d{4} \d\d:\d\d(?= UTC)", said)
        assert found, said
        return datetime.strptime(found.group(), "%d %b %Y %H:%M").replace(tzinfo=UTC)

    def card(self, key: str) -> Locator:
        """A card by its key."""
        return self.page.locator(f".st-key-card-{key}")

    def button(self, name: str, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    # ------------------------------------------------------------------------------------------------------- tables

    def grid(self, alt: str) -> Locator:
        """The table of that description."""
        return self.page.get_by_role("region", name=alt, exact=True).locator("canvas table")

    def rows(self, alt: str) -> list[dict[str, str]]:
        """The rows in sight of a table, as column to text; none while the table is not there."""
        return list(self.grid(alt).evaluate_all(_READ))

    def row_with(self, alt: str, within_ms: float = SOON_MS, **wanted: str) -> tuple[int, dict[str, str]]:
        """The first row whose columns match all patterns (a blank in a column's name is _), and where it stands."""
        patterns = {column.replace("_", " "): pattern for column, pattern in wanted.items()}
        rows: list[dict[str, str]] = []
        for _ in range(int(within_ms / 250)):
            rows = self.rows(alt)
            for at, row in enumerate(rows):
                if all(re.search(pattern, row.get(column) or "") for column, pattern in patterns.items()):
                    return at, row
            self.page.wait_for_timeout(250)
        raise AssertionError(f"no row of {alt!r} has {patterns}: {rows}")

    def choose(self, alt: str, shows: Locator, **wanted: str) -> dict[str, str]:
        """Ticks the first row in sight whose columns match, until what that choice `shows` is in sight; the row."""
        canvas = self.page.get_by_role("region", name=alt, exact=True).locator("canvas").first
        for _ in range(4):
            at, row = self.row_with(alt, **wanted)
            # The table's own scroller lies over the canvas, hence by force.
            canvas.click(position={"x": 16, "y": _ROW_PX * (at + 1.5)}, force=True)
            try:
                expect(shows).to_be_visible(timeout=SOON_MS / 2)
            except AssertionError:
                continue  # a tick that was lost in a redrawing
            return row
        raise AssertionError(f"choosing {row} of {alt!r} shows nothing")

    def search(self, words: str) -> None:
        """On the ledger's page: only entries that hold these words, so that newer ones push nothing out of sight."""
        field = self.page.get_by_label("Search", exact=True)
        field.fill(words)
        field.press("Enter")

    # ------------------------------------------------------------------------------------------------------- dialogs

    def dialog(self, title: str) -> Locator:
        """The dialog of that title, once it is open."""
        found = self.page.get_by_role("dialog", name=title)
        expect(found).to_be_visible()
        return found

    def confirm(self, dialog: Locator, verb: str, reason: str) -> None:
        """Gives a reason and presses the verb; the verb waits for the reason."""
        pressed = dialog.get_by_role("button", name=verb, exact=True)
        expect(pressed).to_be_disabled()
        dialog.get_by_label("Reason, kept in the ledger").fill(reason)
        expect(pressed).to_be_enabled()
        pressed.click()
        expect(dialog).to_be_hidden()

    def pick(self, within: Locator, label: str, option: str) -> None:
        """Chooses an option of a select box."""
        within.get_by_role("combobox", name=label).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def demo(self) -> Locator:
        """The demo controls, open."""
        opened = self.page.locator("[data-testid=stPopoverBody]")
        if not opened.is_visible():
            self.page.get_by_role("button", name="Demo controls").click()
        expect(opened).to_be_visible()
        return opened

    def press_demo(self, name: str, told: str) -> None:
        """Presses a demo control; `told` begins what the page then says was asked for."""
        demo = self.demo()
        self.page.evaluate("window.hdMessages.clear()")
        demo.get_by_role("button", name=name).click()
        self.page.wait_for_function(
            "told => [...window.hdMessages].some(one => new RegExp(told).test(one))",
            arg=rf"{told} asked for\. Request \d+ is pending",
        )
        self.page.keyboard.press("Escape")
        expect(self.page.locator("[data-testid=stPopoverBody]")).to_be_hidden()

    # -------------------------------------------------------------------------------------------------------- charts

    def chart(self, key: str) -> Locator:
        """A chart, once it is drawn."""
        found = self.page.locator(f".st-key-{key} .hd-plot")
        expect(found).to_have_attribute("data-drawn", re.compile(r"\d+"))
        return found

    def drawn(self, chart: Locator) -> int:
        """How often a chart was drawn since it was put there."""
        return int(chart.get_attribute("data-drawn") or 0)

    def span(self, chart: Locator) -> list[Any]:
        """The time range that a chart shows, as two moments in ms."""
        return list(chart.evaluate("host => host._fullLayout.xaxis.range.map(at => +new Date(at))"))

    def series(self, chart: Locator, name: str) -> list[float]:
        """The numbers of a line of a chart."""
        read = (
            "(host, name) => { const found = (host._fullData || []).find(one => one.name === name);"
            " return found ? [...found.y].filter(Number.isFinite) : []; }"
        )
        return list(chart.evaluate(read, name))
