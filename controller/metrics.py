"""What a Prometheus may scrape at /metrics. A registry of its own, so that two controllers in a test do not collide.

A number that is unknown has no sample: Prometheus then shows a gap, and an alert on absence works. Never 0.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TICK_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The controller's own numbers. Every method is safe to call from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept = self.registry
        self._ticks = Counter("heddle_ticks", "Ticks run, failed ones included.", registry=kept)
        self._late = Counter("heddle_ticks_late", "Ticks run later than they were due.", registry=kept)
        self._failed = Counter("heddle_ticks_failed", "Ticks that raised an error.", registry=kept)
        self._tick_s = Histogram(
            "heddle_tick_seconds", "Wall-clock duration of a tick.", buckets=_TICK_BUCKETS_S, registry=kept
        )
        self._guards = Counter("heddle_guard_checks", "Guard checks run.", registry=kept)
        self._guards_late = Counter("heddle_guard_checks_late", "Guard checks run later than due.", registry=kept)
        self._replicas = Gauge("heddle_replicas", "Replicas of a service.", ["service", "state"], registry=kept)
        self._spend = Gauge(
            "heddle_spend_usd", "Dollars accrued in the present clock hour, jobs included.", ["scope"], registry=kept
        )
        self._burn = Gauge(
            "heddle_burn_usd_per_hour", "Dollars an hour at the present fleet and jobs.", ["scope"], registry=kept
        )
        self._cap = Gauge(
            "heddle_spend_cap_usd_per_hour", "The envelope's cap; absent: none.", ["scope"], registry=kept
        )
        self._term = Gauge(
            "heddle_term_reading", "An envelope term as measured, ms or dollars.", ["service", "term"], registry=kept
        )
        self._limit = Gauge(
            "heddle_term_limit", "The limit of an envelope term, ms or dollars.", ["service", "term"], registry=kept
        )

    def tick(self, seconds: float, *, late: bool = False, failed: bool = False) -> None:
        """One tick ran for `seconds` of wall time."""
        self._ticks.inc()
        self._tick_s.observe(seconds)
        if late:
            self._late.inc()
        if failed:
            self._failed.inc()

    def guard_check(self, *, late: bool = False) -> None:
        """One guard check ran."""
        self._guards.inc()
        if late:
            self._guards_late.inc()

    def replicas(self, service: str, *, desired: int, ready: int, coming: int) -> None:
        """A service's replicas as of this tick."""
        for state, count in (("desired", desired), ("ready", ready), ("coming", coming)):
            self._replicas.labels(service, state).set(count)

    def spend(self, *, hour_usd: float, burn_usd_per_hour: float, cap_usd_per_hour: float | None) -> None:
        """Dollars of the present clock hour, the present burn, and the cap (None: there is none)."""
        self._spend.labels("fleet").set(hour_usd)
        self._burn.labels("fleet").set(burn_usd_per_hour)
        if cap_usd_per_hour is None:
            self._cap.clear()
        else:
            self._cap.labels("fleet").set(cap_usd_per_hour)

    def term(self, service: str, term: str, *, value: float | None, limit: float | None) -> None:
        """An envelope term's reading and limit; None removes the sample."""
        for gauge, number in ((self._term, value), (self._limit, limit)):
            if number is None:
                gauge.remove_by_labels({"service": service, "term": term})
            else:
                gauge.labels(service, term).set(number)

    def exposition(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
