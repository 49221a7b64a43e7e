"""Setting an override, or pausing the whole fleet: always with a reason, an end, and the price until then."""

import math

import streamlit as st

from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.queries.fleet import Fleet, read_fleet
from dashboard.queries.standing import Standing, read_standing
from models.enums import OverrideKind

HOURS = {"30 min": 0.5, "1 h": 1.0, "4 h": 4.0, "12 h": 12.0, "24 h": 24.0}
KINDS = {"Pin replicas": OverrideKind.PIN, "Freeze": OverrideKind.FREEZE, "Pause automation": OverrideKind.PAUSE}
MEANING = {
    OverrideKind.PIN: "Desired is held at your number. The spend cap still rules unless you sign above it.",
    OverrideKind.FREEZE: "Desired stays where it is now. Lost replicas are replaced.",
    OverrideKind.PAUSE: "Nothing is started or released for this service. Guardrails keep running.",
}


def price(fleet: Fleet, replicas: int, hours: float) -> tuple[float | None, float | None]:
    """Dollars an hour of `replicas` at the present mix, and dollars until the end. None where no price is known."""
    if fleet.usd_per_replica_hour is None:
        return None, None
    each = fleet.usd_per_replica_hour * replicas
    return each, each * hours


def above_cap(per_hour: float | None, cap: float | None) -> bool:
    """Whether the rate is above the cap; unknown or no cap is not."""
    return per_hour is not None and cap is not None and per_hour > cap + 1e-9


def most_within_cap(fleet: Fleet, cap: float) -> int | None:
    """The nearest feasible pin: how many replicas the cap pays for at the present mix."""
    return None if not fleet.usd_per_replica_hour else math.floor(cap / fleet.usd_per_replica_hour)


def rows_of(standing: Standing, fleet: Fleet, kind: OverrideKind, replicas: int, hours: float) -> dialogs.Fields:
    """What the operator is about to do, told before it is done."""
    per_hour, total = price(fleet, replicas, hours)
    what = {
        OverrideKind.PIN: f"Pin {replicas} replicas",
        OverrideKind.FREEZE: f"Freeze at {replicas}",
        OverrideKind.PAUSE: "Pause automation",
    }
    more = (
        formats.signed_money((replicas - fleet.desired) * fleet.usd_per_replica_hour * 24)
        if fleet.usd_per_replica_hour
        else formats.DASH
    )
    return [
        ("What", f"{what[kind]}; now {fleet.ready} ready of {fleet.desired} desired"),
        ("Reaches", f"Service {standing.service}, tiers {', '.join(standing.tiers) or formats.DASH}"),
        ("Price", f"About {formats.rate(per_hour)}, {formats.money(total)} until it ends ({more} a day against now)"),
        ("Takes effect", "At the next tick"),
        ("Ends", f"{formats.exact(intents.until(hours))}, by itself, or when you return to automatic"),
    ]


def override(kind: str = OverrideKind.PIN.value) -> None:
    """Gather an override: kind, count, end and reason."""
    standing, fleet = read_standing(), read_fleet()
    start = next(word for word, value in KINDS.items() if value.value == kind)

    @st.dialog(f"Override {standing.service}?", width="medium")
    def body() -> None:
        word = st.segmented_control("Kind", list(KINDS), default=start, required=True, key="ov-kind")
        chosen = KINDS[str(word)]
        st.caption(MEANING[chosen])
        replicas = fleet.desired
        left, right = st.columns(2)
        if chosen is OverrideKind.PIN:
            replicas = int(
                left.number_input(
                    "Replicas", min_value=0, max_value=1000, value=max(1, fleet.desired), step=1, key="ov-replicas"
                )
                or 0
            )
        length = right.selectbox("Ends in", list(HOURS), index=1, key="ov-hours")
        hours = HOURS[str(length)]
        dialogs.facts(rows_of(standing, fleet, chosen, replicas, hours))
        per_hour, _ = price(fleet, replicas, hours)
        signed = False
        over = chosen is OverrideKind.PIN and above_cap(per_hour, standing.cap)
        if over and standing.cap is not None:
            nearest = most_within_cap(fleet, standing.cap)
            st.warning(
                f"{formats.rate(per_hour)} is above the cap of {formats.rate(standing.cap)}. Nearest "
                f"within it: {nearest} replicas. "
                "Unsigned, the cap keeps the pin down.",
                icon=":material/warning:",
            )
            signed = st.checkbox("I sign for spending above the cap", key="ov-signed")
        reason = dialogs.reason_field("ov-reason", "Launch at 14:00, keep headroom")
        verb = {
            OverrideKind.PIN: f"Pin {replicas} replicas",
            OverrideKind.FREEZE: f"Freeze at {replicas}",
            OverrideKind.PAUSE: "Pause automation",
        }[chosen]
        if dialogs.buttons("Keep automatic", verb, ready=bool(reason), key="ov"):
            count = replicas if chosen is OverrideKind.PIN else None
            dialogs.perform(
                lambda: intents.override(chosen, count, intents.until(hours), reason, signed_over_cap=signed),
                f"{verb} asked for.",
            )

    body()


def pause_fleet() -> None:
    """Gather a pause of the whole fleet: its end and reason."""
    standing, fleet = read_standing(), read_fleet()

    @st.dialog("Pause automation for the whole fleet?", width="medium")
    def body() -> None:
        hours = HOURS[str(st.selectbox("Ends in", list(HOURS), index=1, key="pf-hours"))]
        per_hour, total = price(fleet, fleet.desired, hours)
        dialogs.facts(
            [
                ("What", "No scaling act for any service; guardrails keep running"),
                ("Reaches", f"Every service and tier, {fleet.ready} ready replicas"),
                ("Price", f"About {formats.rate(per_hour)}, {formats.money(total)} until it ends"),
                ("Takes effect", "At the next tick"),
                (
                    "Ends",
                    (
                        f"{formats.exact(intents.until(hours))}, by itself; the envelope v{standing.version} "
                        "then rules again"
                    ),
                ),
            ]
        )
        reason = dialogs.reason_field("pf-reason", "Cluster maintenance")
        if dialogs.buttons("Keep it running", "Pause the fleet", ready=bool(reason), key="pf"):
            dialogs.perform(lambda: intents.pause_fleet(intents.until(hours), reason), "Pause of the fleet asked for.")

    body()
