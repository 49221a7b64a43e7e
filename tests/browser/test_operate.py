"""A person operates the fleet in a browser. Each test is a story of its own; they share one product and its time."""

import csv
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from models.enums import ActionStatus, GuardAction
from tests.browser.product import Product, wait_for
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
    RUNS,
    Room,
)

RUNAWAY = "Seamless tile search, all seeds"
CAP = "Cap, $ an hour"
# For what takes virtual minutes: a slow machine may not keep up with the speed.
VIRTUAL_MS = 900_000


@pytest.fixture
def room(page: Page, product: Product) -> Room:
    return Room(page, product.url)


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def peak(values: list[float]) -> float:
    """The highest mean of six values in a row."""
    return max((mean(values[at : at + 6]) for at in range(max(1, len(values) - 5))), default=0.0)


def killed(product: Product, job: str) -> bool:
    return any(row["id"] == job for row in product.api("/v1/jobs?state=killed"))


def test_fleet_has_content_and_time_goes_on(room: Room):
    room.enter("Fleet")
    expect(room.strip).to_contain_text(re.compile("Held|At risk|Breached"))
    expect(room.card("verdict")).to_contain_text(re.compile(r"\$\d+\.\d\d\s*of \$50 this clock hour"))
    for tier in ("Premium", "Standard", "Background"):
        expect(room.card("verdict")).to_contain_text(tier)
    chart = room.chart("fleet-picture")
    room.until(lambda: room.series(chart, "actual"), lambda: "no demand is drawn")
    room.until(lambda: room.series(chart, "capacity"), lambda: "no capacity is drawn")
    room.row_with(POOLS, Offer="g5.xlarge")
    expect(room.head).to_contain_text("Simulated")

    first = room.now()
    room.until(lambda: room.now() > first, lambda: f"it stays {room.now()}")


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
    room.search("A tighter month")
    room.row_with(ENTRIES, Kind="Envelope", By="ada")

    # The way back is the history.
    room.go("Envelope")
    roll_back = room.button(f"Roll back to v{version}", exact=False)
    room.choose(HISTORY, roll_back, Version=f"^v{version}$")
    roll_back.click()
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
        expect(room.card("changes")).to_contain_text("Nothing has changed.")
    # A target below the execution time itself: no fleet reaches it, so it is applied signed or not at all.
    expect(field).to_have_count(1)
    choice = room.page.get_by_role("option", name="end to end", exact=True)

    def opened() -> bool:
        """The form is drawn anew after what was discarded: a list that was opened just before is gone with it."""
        room.settled()
        if not choice.is_visible():
            room.card("targets").get_by_role("combobox", name="Of").first.click()
        return choice.is_visible()

    room.until(opened, lambda: "the list of what a target is of")
    choice.click()
    expect(problem).to_contain_text(re.compile("Premium.*execution.*Nearest feasible", re.DOTALL))
    room.button("Review and apply").click()
    dialog = room.dialog(f"Apply envelope v{version + 1}?")
    dialog.get_by_label("Reason").fill("To see what it says")
    dialog.get_by_label("Reason").press("Tab")
    expect(dialog.get_by_role("button", name=f"Apply v{version + 1}", exact=True)).to_be_disabled()
    dialog.get_by_role("button", name=f"Keep v{version}", exact=True).click()
    assert room.version() == version


def test_an_override_rules_until_automation_returns(room: Room, product: Product):
    room.enter("Scaling")
    expect(room.card("overrides")).to_contain_text("No override is in force")
    room.button("Override").click()
    dialog = room.dialog("Override images?")
    dialog.get_by_label("Replicas").fill("9")
    dialog.get_by_label("Replicas").press("Enter")
    room.pick(dialog, "Ends in", "24 h")  # of virtual time: it does not end by itself before it is ended here
    expect(dialog.get_by_role("row", name=re.compile("^What"))).to_contain_text("Pin 9 replicas")
    expect(dialog.get_by_role("row", name=re.compile("^Ends"))).to_contain_text("by itself")
    room.confirm(dialog, "Pin 9 replicas", "Launch of the spring collection")

    expect(room.card("overrides")).to_contain_text("Pin images at 9")
    expect(room.card("overrides")).to_contain_text("ada: Launch of the spring collection")
    expect(room.card("requests")).to_contain_text(re.compile("Applied.*Override by ada", re.DOTALL))
    room.row_with(DECISIONS, Replicas=r"\b9$", Bound_by="Override")
    room.go("Ledger")
    room.search("Launch of the spring collection")
    room.row_with(ENTRIES, Kind="Override", By="ada", What=r"[Pp]in")
    room.row_with(REQUESTS, Asked_for="Override", Status="Applied", Reason="Launch of the spring collection")

    room.go("Scaling")
    room.button("Return to automatic").click()
    room.confirm(room.dialog("Return to automatic?"), "Return to automatic", "The launch is over")
    expect(room.card("overrides")).to_contain_text("No override is in force")
    _, row = room.row_with(OVERRIDES, Override="Pin at 9", Ended="The launch is over")
    assert row["Author"] == "ada"
    wait_for(lambda: product.api("/v1/overrides")["items"] == [], "no override in force")


def test_a_decision_opens_with_its_why(room: Room):
    room.enter("Scaling")
    row = room.choose(DECISIONS, room.card("why"), Plan=r"p-\d{6}")
    expect(room.card("why")).to_contain_text("Binding limit")
    expect(room.card("record")).to_contain_text(re.compile(r"p-\d{6}"))
    expect(room.page).to_have_url(re.compile(r"plan=p-\d{6}"))
    room.button("All decisions", exact=False).click()
    expect(room.card("decisions")).to_be_visible()
    assert row["Why"]


def test_the_whole_fleet_is_paused_and_goes_on(room: Room):
    room.enter("Scaling")
    room.button("Pause the fleet").click()
    dialog = room.dialog("Pause automation for the whole fleet?")
    room.pick(dialog, "Ends in", "24 h")  # of virtual time: it does not end by itself before it is ended here
    room.confirm(dialog, "Pause the fleet", "Maintenance")
    banner = room.page.locator(".hd-banner", has_text="Automation is paused until")
    expect(banner).to_be_visible()
    expect(room.badge).to_contain_text("Paused to")
    room.go("Fleet")
    expect(banner).to_be_visible()
    room.go("Scaling")
    room.button("Resume the fleet").click()
    room.confirm(room.dialog("Resume automation for the fleet?"), "Resume automation", "Maintenance is done")
    expect(banner).to_have_count(0)
    expect(room.badge).to_contain_text("Act")


def test_a_surge_shows_in_the_demand(room: Room):
    room.enter("Fleet", "?range=6h")  # the surge stays in sight for so long, however seldom a slow machine looks
    chart = room.chart("fleet-picture")
    room.until(lambda: room.series(chart, "actual"), lambda: "no demand is drawn")
    before = peak(room.series(chart, "actual"))
    room.demo().get_by_label("Surge, times").fill("10")
    room.demo().get_by_label("Surge, times").press("Enter")
    room.press_demo("Inject a surge", "Surge")
    room.until(
        lambda: peak(room.series(chart, "actual")) > 2.5 * before,
        lambda: (before, room.series(chart, "actual")[-30:]),
        within_ms=VIRTUAL_MS,
    )
    room.go("Ledger")
    room.row_with(REQUESTS, Asked_for="[Ss]urge", Status="Applied")
    room.search("arrivals are 10")
    room.row_with(ENTRIES, By="ada", What="10×")


def test_a_runaway_is_started_and_killed_by_hand_with_its_name_typed(room: Room, product: Product):
    room.enter("Fleet")
    # The guard would kill it by itself after 40 minutes: time is slowed, then stopped, so that the hand is first.
    with product.pace(5):
        room.press_demo("Start a runaway", "Runaway")
        running = "/v1/jobs?state=running"
        job = wait_for(
            lambda: next((one["id"] for one in product.api(running) if re.match(r"j-0\d{3}$", one["id"])), None),
            "the runaway runs",
        )
        with product.still():
            room.go("Guardrails")
            button = room.card("jobs").get_by_role("button", name="Kill")
            room.choose(JOBS, button, Job=f"^{job}$", Name=RUNAWAY, State="Running")
            expect(room.card("jobs")).to_contain_text(f"{job}, {RUNAWAY}")
            button.click()
            dialog = room.dialog(f"Kill job {job}?")
            kill = dialog.get_by_role("button", name=f"Kill {job}", exact=True)
            dialog.get_by_label("Reason, kept in the ledger").fill("Loops without progress")
            room.settled()
            expect(kill).to_be_disabled()
            dialog.get_by_label("Type the name of the job to go on").fill(RUNAWAY)
            dialog.get_by_label("Type the name of the job to go on").press("Enter")
            expect(kill).to_be_enabled()
            kill.click()
            expect(dialog).to_be_hidden()
        wait_for(lambda: killed(product, job), "the runaway is killed")
        room.row_with(JOBS, Job=f"^{job}$", State="Killed")
    room.go("Ledger")
    room.search(job)
    room.row_with(ENTRIES, By="ada", Subject=job, What="killed by hand")


def test_the_guard_kills_the_runaway_by_itself(room: Room, product: Product):
    def by_the_guard() -> str | None:
        """The job that was killed for want of progress, once the cluster has confirmed it."""
        events = product.api("/v1/guardrails/events")["items"]
        kill = ("no-progress", GuardAction.KILL.value, ActionStatus.CONFIRMED.value)
        return next((one["job_id"] for one in events if (one["rule"], one["action"], one["status"]) == kill), None)

    room.enter("Guardrails")
    job = wait_for(by_the_guard, "the guard kills the runaway", within_s=VIRTUAL_MS / 1000)
    with product.still():
        room.row_with(EVENTS, Job=job, Rule="no-progress", Act="Throttle", Status="Confirmed")
        evidence = room.card("events").get_by_text(f"Evidence, {job}")
        room.choose(EVENTS, evidence, Job=job, Rule="no-progress", Act="Kill", Status="Confirmed")
    wait_for(lambda: killed(product, job), "the runaway is killed")
    room.row_with(JOBS, Job=f"^{job}$", Name=RUNAWAY, State="Killed")


def test_a_zone_is_lost(room: Room):
    room.enter("Fleet")
    zone = (
        room.demo().get_by_role("combobox", name="Zone").input_value()
        or (room.demo().locator("[class*=st-key-demo-zone]").inner_text().split()[-1])
    )
    minutes = room.demo().locator(".st-key-demo-lost input")
    minutes.fill("240")
    minutes.press("Enter")
    room.press_demo("Lose a zone", f"Loss of {zone}")

    def held() -> bool:
        """Whether the fleet holds no spot replica of the zone. A table that is not there says nothing."""
        rows = room.rows(POOLS)
        spot = [row for row in rows if row["Zone"] == zone and row["Market"] == "Spot"]
        return bool(rows) and all(row["Ready"].startswith("0") for row in spot)

    room.go("Ledger")
    room.row_with(REQUESTS, Asked_for="[Zz]one", Status="Applied")
    room.search(f"zone {zone} is lost")
    room.row_with(ENTRIES, By="ada", What="240 min")
    room.go("Fleet")
    # The notice is 120 s of virtual time.
    room.until(held, lambda: (zone, room.rows(POOLS)), within_ms=VIRTUAL_MS)


def test_the_clock_is_paused_and_set_to_another_speed(room: Room):
    room.enter("Fleet")
    room.press_demo("Pause", "Pause of the clock")
    expect(room.head).to_contain_text("paused")
    room.press_demo("Resume", "Resume of the clock")
    expect(room.head).to_contain_text("60×")
    room.pick(room.demo(), "Speed", "300×")
    room.press_demo("Set speed", "Speed 300×")
    expect(room.head).to_contain_text("300×")
    room.pick(room.demo(), "Speed", "60×")
    room.press_demo("Set speed", "Speed 60×")
    expect(room.head).to_contain_text("60×")


def test_a_past_day_is_replayed_compared_and_another_replay_cancelled(room: Room):
    room.enter("What if")
    form = room.card("ask")
    form.get_by_text("Last day", exact=True).click()
    form.get_by_text("Replay the baselines too").click()
    room.settled()
    for policy in ("hpa", "static", "heddle"):
        room.pick(form, "Policy", policy)
        room.settled()
        room.button("Review and run").click()
        dialog = room.dialog("Run this replay?")
        expect(dialog).to_contain_text("24 Nov")
        room.confirm(dialog, "Run", "what would it have cost?")
        room.row_with(RUNS, Policy=policy)
    _, row = room.row_with(RUNS, VIRTUAL_MS, Policy="hpa", State="Done")
    assert re.search(r"[1-9]", row["Cost"]) and row["Took"], row
    room.row_with(RUNS, VIRTUAL_MS, Policy="static", State="Done")
    compared = room.card("comparison")
    for words in ("Cost of the window", "Premium wait", "Starts and stops", f"{row['No.']} hpa", "static"):
        expect(compared).to_contain_text(words)
    room.until(lambda: room.drawn(room.chart("wi-spend")) > 0, lambda: "no spend is drawn")
    with room.page.expect_download() as coming:
        compared.get_by_role("button", name="CSV", exact=True).click()
    with open(coming.value.path(), encoding="utf-8", newline="") as file:
        assert [line["policy"] for line in csv.DictReader(file)] == ["hpa", "static"]

    cancel = room.card("replays").get_by_role("button", name="Cancel", exact=True)
    chosen = room.choose(RUNS, cancel, Policy="heddle", State="Pending|Running")
    cancel.click()
    room.confirm(room.dialog(f"Cancel replay {chosen['No.']}?"), "Cancel the replay", "not needed")
    room.row_with(RUNS, VIRTUAL_MS, Policy="heddle", State="Cancelled")


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

    def width() -> float:
        left, right = room.span(chart)
        return float(right - left)

    def drag() -> bool:
        """Draws a span with the mouse; whether the chart zoomed. A refresh in the middle of it may undo it."""
        box = chart.bounding_box()
        assert box
        room.page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.4)
        room.page.mouse.down()
        room.page.mouse.move(box["x"] + box["width"] * 0.70, box["y"] + box["height"] * 0.4, steps=6)
        room.page.mouse.up()
        room.page.wait_for_timeout(500)
        return width() < 0.5 * (whole[1] - whole[0])

    room.until(drag, lambda: f"no zoom: {room.span(chart)} of {whole}")
    zoomed = room.span(chart)
    drawn = room.drawn(chart)
    chart.evaluate("host => { host.hdSame = true; }")
    room.until(lambda: room.drawn(chart) >= drawn + 2, lambda: f"not drawn again since {drawn}")
    assert chart.evaluate("host => host.hdSame"), "the same chart goes on, not a new one"
    assert room.span(chart) == zoomed

    def double_click() -> bool:
        """Whether the whole span is back: on a busy machine two clicks may be too far apart to be a double one."""
        box = chart.bounding_box()
        assert box
        room.page.mouse.dblclick(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.4)
        room.page.wait_for_timeout(1000)
        return width() > 0.9 * (whole[1] - whole[0])

    room.until(double_click, lambda: f"still zoomed: {room.span(chart)} of {whole}")


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

    def red() -> int:
        ground = room.page.locator(".stApp").evaluate("app => getComputedStyle(app).backgroundColor")
        return int(re.findall(r"\d+", ground)[0])

    room.until(lambda: red() < 60 if dark else red() > 200, red)
    for name in PAGES:
        room.go(name)
        expect(room.page.get_by_text("could not be read")).to_have_count(0)
        expect(room.page.get_by_test_id("stException")).to_have_count(0)
        for wrong in (_CONTRAST, _TOO_WIDE):  # looked at again while a page still takes its shape
            room.until(
                lambda wrong=wrong: room.page.evaluate(wrong) == [],
                lambda name=name, wrong=wrong: (name, room.page.evaluate(wrong)),
            )
