"""A person operates the fleet in a browser. Each test is a story of its own; they share one product and its time."""

import csv
import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Product
from tests.browser.room import (
    DECISIONS,
    ENTRIES,
    EVENTS,
    HISTORY,
    JOBS,
    OVERRIDES,
    PAGES,
    POOLS,
    REQUESTS,
    Room,
)

RUNAWAY = "Seamless tile search, all seeds"
CAP = "Cap, $ an hour"


@pytest.fixture
def room(page: Page, product: Product) -> Room:
    return Room(page, product.url)


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def test_fleet_has_content_within_ten_seconds_and_time_goes_on(room: Room):
    begun = time.monotonic()
    room.enter("Fleet")
    expect(room.strip).to_contain_text(re.compile("Held|At risk|Breached"))
    expect(room.card("verdict")).to_contain_text(re.compile(r"\$\d+\.\d\d\s*of \$50 this clock hour"))
    for tier in ("Premium", "Standard", "Background"):
        expect(room.card("verdict")).to_contain_text(tier)
    chart = room.chart("fleet-picture")
    assert room.series(chart, "actual")
    assert room.series(chart, "capacity")
    room.row_with(POOLS, Offer="g5.xlarge")
    expect(room.head).to_contain_text("Simulated")
    assert time.monotonic() - begun < 10

    first = room.now()
    expect(room.head).not_to_contain_text(first.strftime("%H:%M UTC"))
    assert timedelta(0) < room.now() - first < timedelta(minutes=30)


def test_an_envelope_is_set_and_takes_effect(room: Room):
    room.enter("Envelope")
    version = room.version()
    review = room.button("Review and apply")
    expect(review).to_be_disabled()
    expect(room.card("changes")).to_contain_text("Nothing has changed.")

    room.page.get_by_label(CAP).fill("44")
    room.page.get_by_label(CAP).press("Enter")
    expect(room.card("changes").get_by_role("row", name="Spend cap")).to_contain_text("$44.00/h")
    review.click()
    dialog = room.dialog(f"Apply envelope v{version + 1}?")
    expect(dialog.get_by_role("row", name="Spend cap")).to_contain_text("$44.00/h")
    room.confirm(dialog, f"Apply v{version + 1}", "A tighter month")

    expect(room.strip).to_contain_text(f"Envelope v{version + 1}")
    expect(room.strip).to_contain_text("of $44")
    expect(room.card("asked")).to_contain_text(re.compile("Applied.*Apply envelope", re.DOTALL))
    _, row = room.row_with(HISTORY, Version=f"v{version + 1}, in force")
    assert (row["Cap"], row["Author"], row["Reason"]) == ("$44.00/h", "ada", "A tighter month")
    room.go("Fleet")
    expect(room.card("verdict")).to_contain_text("of $44 this clock hour")
    room.go("Ledger")
    room.row_with(ENTRIES, Kind="Envelope", By="ada")

    # The way back is the history.
    room.go("Envelope")
    at, _ = room.row_with(HISTORY, Version=f"^v{version}$")
    room.choose(HISTORY, at)
    room.button(f"Roll back to v{version}", exact=False).click()
    back = room.dialog(f"Apply envelope v{version + 2}?")
    expect(back.get_by_label("Reason, kept in the ledger")).to_have_value(f"Roll back to v{version}")
    back.get_by_role("button", name=f"Apply v{version + 2}", exact=True).click()
    expect(room.strip).to_contain_text(f"Envelope v{version + 2}")
    expect(room.strip).to_contain_text("of $50")


def test_a_bad_envelope_is_refused_in_the_form_with_the_reason(room: Room):
    room.enter("Envelope")
    version = room.version()
    problem = room.card("targets").get_by_role("alert")
    for label, value, reason in (
        (CAP, "-5", "Spend cap.*Nearest feasible"),
        ("Floor", "500", "Floor.*above the cap.*Nearest feasible"),
    ):
        field = room.page.get_by_label(label, exact=True)
        expect(field).to_have_count(1)  # the form that was discarded is gone
        field.fill(value)
        field.press("Enter")
        expect(problem).to_contain_text(re.compile(reason, re.IGNORECASE | re.DOTALL))
        expect(room.card("changes")).to_contain_text("Refused: the form says why.")
        expect(room.button("Review and apply")).to_be_disabled()
        room.button("Discard").click()
        expect(problem).to_have_count(0)
    # A target below the execution time itself.
    expect(field).to_have_count(1)
    room.card("targets").get_by_role("combobox", name="Of").first.click()
    room.page.get_by_role("option", name="end to end", exact=True).click()
    expect(problem).to_contain_text(re.compile("Premium.*execution.*Nearest feasible", re.DOTALL))
    expect(room.button("Review and apply")).to_be_disabled()
    assert room.version() == version


def test_an_override_rules_until_automation_returns(room: Room, product: Product):
    room.enter("Scaling")
    expect(room.card("overrides")).to_contain_text("No override is in force")
    room.button("Override").click()
    dialog = room.dialog("Override images?")
    dialog.get_by_label("Replicas").fill("9")
    dialog.get_by_label("Replicas").press("Enter")
    room.pick(dialog, "Ends in", "4 h")
    expect(dialog.get_by_role("row", name=re.compile("^What"))).to_contain_text("Pin 9 replicas")
    expect(dialog.get_by_role("row", name=re.compile("^Ends"))).to_contain_text("by itself")
    room.confirm(dialog, "Pin 9 replicas", "Launch of the spring collection")

    expect(room.card("overrides")).to_contain_text("Pin images at 9")
    expect(room.card("overrides")).to_contain_text("ada: Launch of the spring collection")
    expect(room.card("requests")).to_contain_text(re.compile("Applied.*Override by ada", re.DOTALL))
    room.row_with(DECISIONS, Replicas=r"\b9$", Bound_by="Override")
    room.go("Ledger")
    room.row_with(ENTRIES, Kind="Override", By="ada", What=r"[Pp]in")
    room.row_with(REQUESTS, Asked_for="Override", Status="Applied", Reason="Launch of the spring collection")

    room.go("Scaling")
    room.button("Return to automatic").click()
    room.confirm(room.dialog("Return to automatic?"), "Return to automatic", "The launch is over")
    expect(room.card("overrides")).to_contain_text("No override is in force")
    _, row = room.row_with(OVERRIDES, Override="Pin at 9", Ended="The launch is over")
    assert row["Author"] == "ada"
    assert product.api("/v1/overrides")["items"] == []


def test_a_decision_opens_with_its_why(room: Room):
    room.enter("Scaling")
    at, row = room.row_with(DECISIONS, Plan=r"p-\d{6}")
    room.choose(DECISIONS, at)
    expect(room.card("why")).to_contain_text("Binding limit")
    expect(room.card("record")).to_contain_text(re.compile(r"p-\d{6}"))
    assert re.search(r"plan=p-\d{6}", room.page.url)
    room.button("All decisions", exact=False).click()
    expect(room.card("decisions")).to_be_visible()
    assert row["Why"]


def test_the_whole_fleet_is_paused_and_goes_on(room: Room):
    room.enter("Scaling")
    room.button("Pause the fleet").click()
    room.confirm(room.dialog("Pause automation for the whole fleet?"), "Pause the fleet", "Maintenance")
    banner = room.page.locator(".hd-banner", has_text="Automation is paused until")
    expect(banner).to_be_visible()
    expect(room.strip).to_contain_text("Paused to")
    room.go("Fleet")
    expect(banner).to_be_visible()
    room.go("Scaling")
    room.button("Resume the fleet").click()
    room.confirm(room.dialog("Resume automation for the fleet?"), "Resume automation", "Maintenance is done")
    expect(banner).to_have_count(0)
    expect(room.strip).to_contain_text("Act")


def test_a_surge_shows_in_the_demand(room: Room):
    room.enter("Fleet", "?range=1h")
    chart = room.chart("fleet-picture")
    before = mean(room.series(chart, "actual"))
    room.demo().get_by_label("Surge, times").fill("10")
    room.demo().get_by_label("Surge, times").press("Enter")
    room.settled()
    room.press_demo("Inject a surge", "Surge")
    deadline = time.monotonic() + 60
    while mean(room.series(chart, "actual")[-6:]) < 3 * before:
        assert time.monotonic() < deadline, (before, room.series(chart, "actual")[-20:])
        room.page.wait_for_timeout(500)
    room.go("Ledger")
    room.row_with(REQUESTS, Asked_for="[Ss]urge", Status="Applied")


def test_a_runaway_is_started_and_killed_by_hand_with_its_name_typed(room: Room):
    room.enter("Fleet")
    room.press_demo("Start a runaway", "Runaway")
    room.go("Guardrails")
    at, row = room.row_with(JOBS, Job=r"^j-0\d{3}$", Name=RUNAWAY, State="Running")
    room.choose(JOBS, at)
    room.card("jobs").get_by_role("button", name="Kill").click()
    dialog = room.dialog(f"Kill job {row['Job']}?")
    kill = dialog.get_by_role("button", name=f"Kill {row['Job']}", exact=True)
    dialog.get_by_label("Reason, kept in the ledger").fill("Loops without progress")
    room.settled()
    expect(kill).to_be_disabled()
    dialog.get_by_label("Type the name of the job to go on").fill(RUNAWAY)
    dialog.get_by_label("Type the name of the job to go on").press("Enter")
    expect(kill).to_be_enabled()
    kill.click()
    expect(dialog).to_be_hidden()
    room.row_with(JOBS, Job=f"^{row['Job']}$", State="Killed")
    room.go("Ledger")
    room.row_with(ENTRIES, By="ada", Subject=row["Job"])


def test_the_guard_kills_the_runaway_by_itself(room: Room):
    room.enter("Guardrails")
    room.row_with(EVENTS, within_ms=120_000, Rule="no-progress", Act="Throttle", Status="Confirmed")
    at, row = room.row_with(EVENTS, within_ms=60_000, Rule="no-progress", Act="Kill", Status="Confirmed")
    room.row_with(JOBS, Job=f"^{row['Job']}$", Name=RUNAWAY, State="Killed")
    room.choose(EVENTS, at)
    expect(room.card("events")).to_contain_text(f"Evidence, {row['Job']}")


def test_a_zone_is_lost(room: Room):
    room.enter("Fleet")
    zone = (
        room.demo().get_by_role("combobox", name="Zone").input_value()
        or (room.demo().locator("[class*=st-key-demo-zone]").inner_text().split()[-1])
    )
    room.press_demo("Lose a zone", f"Loss of {zone}")
    # The notice is 120 s of virtual time: 2 s.
    deadline = time.monotonic() + 60
    while any(
        row["Zone"] == zone and row["Market"] == "Spot" and not row["Ready"].startswith("0") for row in room.rows(POOLS)
    ):
        assert time.monotonic() < deadline, (zone, room.rows(POOLS))
        room.page.wait_for_timeout(500)
    room.go("Ledger")
    room.row_with(REQUESTS, Asked_for="[Zz]one", Status="Applied")


def test_the_clock_is_paused_and_set_to_another_speed(room: Room):
    room.enter("Fleet")
    room.press_demo("Pause", "Pause of the clock")
    expect(room.head).to_contain_text("paused")
    room.press_demo("Resume", "Resume of the clock")
    expect(room.head).to_contain_text("60×")
    room.pick(room.demo(), "Speed", "300×")
    room.settled()
    room.press_demo("Set speed", "Speed 300×")
    expect(room.head).to_contain_text("300×")
    room.pick(room.demo(), "Speed", "60×")
    room.settled()
    room.press_demo("Set speed", "Speed 60×")


def test_a_table_is_saved_as_csv(room: Room):
    room.enter("Ledger")
    room.row_with(ENTRIES, Kind=".")
    with room.page.expect_download() as coming:
        room.card("ledger").get_by_role("button", name="CSV", exact=True).click()
    assert coming.value.suggested_filename == "heddle-ledger.csv"
    with open(coming.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10
    assert {"at", "kind", "actor", "what", "why"} <= set(rows[0])
    assert all(row["at"] and row["what"] for row in rows)


def test_a_zoom_survives_live_refreshes_until_a_double_click(room: Room):
    room.enter("Fleet", "?range=6h")
    chart = room.chart("fleet-picture")
    chart.scroll_into_view_if_needed()
    whole = room.span(chart)
    box = chart.bounding_box()
    assert box
    room.page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.4)
    room.page.mouse.down()
    room.page.mouse.move(box["x"] + box["width"] * 0.70, box["y"] + box["height"] * 0.4, steps=6)
    room.page.mouse.up()
    zoomed = room.span(chart)
    assert zoomed[1] - zoomed[0] < 0.5 * (whole[1] - whole[0])

    drawn = room.drawn(chart)
    expect(chart).not_to_have_attribute("data-drawn", str(drawn))
    expect(chart).not_to_have_attribute("data-drawn", str(drawn + 1))
    assert room.drawn(chart) >= drawn + 2, "the same chart goes on; a new one would count from 1"
    assert room.span(chart) == zoomed

    room.page.mouse.dblclick(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
    room.page.wait_for_function(
        "([host, width]) => { const [a, b] = host._fullLayout.xaxis.range.map(at => +new Date(at));"
        " return b - a > 0.9 * width; }",
        arg=[chart.element_handle(), whole[1] - whole[0]],
    )


# Of the page's text on what it stands on (WCAG 2.2, 1.4.3).
_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = colour => { const [r, g, b] = colour.map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = element => { for (let at = element; at; at = at.parentElement) {
    const found = rgb(getComputedStyle(at).backgroundColor); if (found[3] > 250) return found; }
    return [255, 255, 255]; };
  const weak = [];
  for (const element of document.querySelectorAll('[data-testid=stMain] *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const shown = element.checkVisibility({checkOpacity: true}) && !element.closest('canvas, svg, [disabled], .hd-i');
    if (!own || !shown || element.closest('[data-testid=stIconMaterial]')) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) weak.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return weak;
}"""


# What is wider than the screen, or reaches past its right edge.
_TOO_WIDE = """() => [
  ...['html', '[data-testid=stMain]'].map(name => document.querySelector(name))
    .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => `${part.tagName} ${part.scrollWidth} px`),
  ...[...document.querySelectorAll('[data-testid=stMain] button, [class*=st-key-card-]')]
    .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
    .map(one => one.textContent.slice(0, 40)),
]"""


@pytest.mark.parametrize(("dark", "width"), [(False, 1440), (True, 820)], ids=["light", "dark and narrow"])
def test_every_page_is_whole_legible_and_no_wider_than_the_screen(
    new_page: Callable[..., Page], product: Product, dark: bool, width: int
):
    room = Room(new_page(dark=dark, width=width), product.url).enter("Fleet")
    ground = room.page.locator(".stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    red = int(re.findall(r"\d+", ground)[0])
    assert red < 60 if dark else red > 200
    for name in PAGES:
        room.go(name)
        expect(room.page.get_by_text("could not be read")).to_have_count(0)
        expect(room.page.get_by_test_id("stException")).to_have_count(0)
        assert room.page.evaluate(_CONTRAST) == [], name
        assert room.page.evaluate(_TOO_WIDE) == [], name
