"""What is known of a service from outside, read from the store as values of the core."""

from dataclasses import dataclass, field

from controller.core.forecast.signals import Outside, Signal, regular
from controller.core.series import DAY_S
from controller.store import Store
from controller.store.signals import SignalFacts

READ_S = 60.0
LOOKED_BACK_S = 35 * DAY_S
"""A week more than the longest history, for lags."""


@dataclass(slots=True)
class _Known:
    """A signal's points as read so far."""

    facts: SignalFacts
    points: dict[float, float] = field(default_factory=dict)
    signal: Signal | None = None


class OutsideReader:
    """Reads signals once a minute, and of each only what is new; events at once, since only the controller writes them.

    The same object is returned while nothing changes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[int, _Known]] = {}
        self._read_s: dict[str, float] = {}
        self._last: dict[str, Outside] = {}

    def read(self, service: str, now_s: float) -> Outside:
        """The signals and events of a service as known at now_s."""
        read_s = self._read_s.get(service)
        if read_s is None or not 0 <= now_s - read_s < READ_S:
            self._fetch(service, now_s)
            self._read_s[service] = now_s
        signals = tuple(known.signal for known in self._known[service].values() if known.signal is not None)
        found = Outside(signals, self._store.events(service))
        last = self._last.get(service)
        if last is not None and last.events == found.events and _same(last.signals, found.signals):
            return last
        self._last[service] = found
        return found

    def _fetch(self, service: str, now_s: float) -> None:
        before = self._known.get(service, {})
        after: dict[int, _Known] = {}
        for facts in self._store.signals(service):
            known = before.get(facts.id)
            if known is None or known.facts.created_at != facts.created_at:  # a number may be given again
                known = _Known(facts)
                since = -1
            elif known.facts == facts:
                after[facts.id] = known
                continue
            else:
                since = known.facts.revision
            points = known.points
            points.update(self._store.signal_values(facts.id, since))
            oldest_s = now_s - LOOKED_BACK_S
            kept = {at_s: value for at_s, value in points.items() if at_s >= oldest_s}
            series = regular(list(kept), list(kept.values()))
            signal = None if series is None else Signal(facts.name, series, facts.known_ahead, facts.stale_after_s)
            after[facts.id] = _Known(facts, kept, signal)
        self._known[service] = after


def _same(first: tuple[Signal, ...], second: tuple[Signal, ...]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))
