"""The simulated cluster as a backend: names, offers, billing, telemetry and jobs around the engine.

It is handed demand, availability and load times as values and knows nothing of files or of the controller's
database. Its own state goes to a file of its own, so that a restart of the controller finds the cluster as a real
one would be found.
"""

import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controller.backends.base import ClusterState, HourSpend, Notice, UnknownSubject
from controller.backends.simulated import kernel, readings
from controller.backends.simulated.activity import ActivityMeter
from controller.backends.simulated.arrivals import Feed, Recorded, uniform
from controller.backends.simulated.engine import Engine, LogRow, ZoneSeries
from controller.backends.simulated.jobs import JobSpec, JobsSim
from controller.core.activity import BIN_S, CHANNELS
from controller.core.capacity import deferrable
from controller.core.finance import HOUR_S, hour_start
from controller.core.types import (
    Action,
    ActionResult,
    FloatArray,
    Job,
    LatencyReading,
    Offer,
    QueueReading,
    Replica,
    Sample,
    Spend,
    TierTarget,
)
from models.enums import ActionKind, ActionStatus, JobState, Market, ReplicaState

_KEEP_HOURS = 48
_FEED_AHEAD_S = 3600.0
_REMEMBERED_RESULTS = 20_000
# Results that outlive a restart: only the last tick's actions can be asked again then.
_KEPT_RESULTS = 1_000
_KEPT_BINS = 5760
_SAVE_EVERY_S = 300.0
_KEEP_REQUESTS_S = 2 * 86400.0
_STATES = {
    kernel.IDLE: ReplicaState.READY,
    kernel.BUSY: ReplicaState.READY,
    kernel.DRAINING: ReplicaState.DRAINING,
    kernel.LEAVING: ReplicaState.DRAINING,
    kernel.RELEASED: ReplicaState.RELEASED,
    kernel.LOST: ReplicaState.LOST,
}
_LOG_KINDS = {
    kernel.LOG_NOTICE: "notice",
    kernel.LOG_LOST: "lost",
    kernel.LOG_INTERRUPTED: "interrupted",
    kernel.LOG_PREEMPTED: "preempted",
}


@dataclass(frozen=True, slots=True)
class Site:
    """What is simulated: the service, its tiers in order of priority, the offers, and how replicas start.

    `preempts[c][d]`: tier c may take a running replica from tier d. `fifo`: one queue for all tiers. `zones`: spot
    capacity by zone; a zone without a series gives any number. `load_times_s`: measured model loads, sampled by
    seed and replica number. `preempts` False: no tier takes a running replica from another.
    """

    service: str
    tiers: tuple[TierTarget, ...]
    offers: tuple[Offer, ...]
    load_times_s: FloatArray
    zones: Mapping[str, ZoneSeries]
    boot_s: float = 180.0
    seed: int = 7
    fifo: bool = False
    work_mean_s: float = 30.0
    work_scv: float = 0.5
    notice_s: float = 120.0
    preempts: bool = True

    def may_preempt(self) -> npt.NDArray[np.bool_]:
        """The first tier may take from all below it, and every tier from those that may be deferred: theirs is work to
        fill what is free. Among the others a wait of seconds is not worth the work that is lost.
        """
        n = 1 if self.fifo else len(self.tiers)
        allowed = np.zeros((n, n), np.bool_)
        if not self.preempts:
            return allowed
        allowed[0, 1:] = True
        if not self.fifo:
            for lower, tier in enumerate(self.tiers):
                allowed[:lower, lower] |= deferrable(tier)
        return allowed


class SimulatedCluster:
    """Implements `Backend` and `Telemetry`. Thread-safe: one lock around every method."""

    name = "simulated"

    def __init__(
        self,
        site: Site,
        start_s: float,
        *,
        feed: Feed | None = None,
        jobs: JobsSim | None = None,
        measure_waits: bool = True,
    ) -> None:
        self.site, self._feed, self._jobs = site, feed, jobs
        self._file: Path | None = None
        self._measure_waits = measure_waits
        self._tiers = tuple(tier.name for tier in site.tiers)
        self._lock = threading.RLock()
        self._offers = {offer.id: i for i, offer in enumerate(site.offers)}
        self._price = np.array([offer.price_usd_per_hour for offer in site.offers])
        spot_zones = sorted({offer.zone for offer in site.offers if offer.market is Market.SPOT})
        self._zone_names = [zone for zone in spot_zones if zone in site.zones] + [
            z for z in spot_zones if z not in site.zones
        ]
        unlimited = ZoneSeries(np.array([-np.inf]), np.array([-1], np.int64))
        self._zones = [site.zones.get(zone, unlimited) for zone in self._zone_names]
        tiers = range(len(site.tiers))
        self.engine = Engine(
            start_s,
            [0 if site.fifo else i for i in tiers],
            site.may_preempt(),
            zones=self._zones,
            notice_s=site.notice_s,
            work_mean_s=site.work_mean_s,
            work_scv=site.work_scv,
        )
        self._start_s = start_s
        self._fed_s = start_s
        self._billed_s = start_s
        self._seen_live: set[int] = set()
        self._first_open = 0
        self._log: list[LogRow] = []
        self._results: dict[str, ActionResult] = {}
        self._hours: dict[float, HourSpend] = {}
        self._surges = 0
        self._telemetry_s: float | None = start_s
        self._silent_until_s = -math.inf
        self._asked, self._saved_s = False, -math.inf
        self._count_from(start_s)

    def _count_from(self, at_s: float) -> None:
        self._meter = ActivityMeter(len(self._tiers), at_s)
        self._bins: FloatArray = np.zeros((CHANNELS, len(self._tiers), 0))

    # --- time ---

    def advance(self, now_s: float) -> None:
        with self._lock:
            while self.engine.now_s < now_s:
                to_s = min(now_s, hour_start(self.engine.now_s) + HOUR_S)
                self._expect(to_s)
                self.engine.advance(to_s)
                if self._jobs is not None:
                    self._jobs.advance(to_s)
                self._log.extend(self.engine.take_log())
                self._bill(to_s)
            if now_s >= self._silent_until_s:
                self._telemetry_s = max(now_s, self._telemetry_s or now_s)

    def _expect(self, until_s: float) -> None:
        if self._feed is not None and until_s > self._fed_s:
            self.engine.forget(until_s - _KEEP_REQUESTS_S)
            to_s = until_s + _FEED_AHEAD_S
            self.engine.expect(self._feed.between(self._fed_s, to_s))
            self._fed_s = to_s

    def _bill(self, to_s: float) -> None:
        """Accrue [billed, to_s), which lies inside one clock hour."""
        n, rows = self.engine.replicas, self.engine.a.replica
        first = self._first_open
        while first < n and not math.isnan(rows[first]["ended"]) and rows[first]["ended"] <= self._billed_s:
            first += 1
        self._first_open = first
        part = rows[first:n]
        until = np.where(np.isnan(part["ended"]), to_s, np.minimum(part["ended"], to_s))
        seconds = np.maximum(0.0, until - np.maximum(part["requested"], self._billed_s))
        replicas_usd = float(seconds @ self._price[part["offer"]]) / HOUR_S
        jobs_usd = 0.0 if self._jobs is None else self._jobs.accrued_usd(self._billed_s, to_s)
        hour = hour_start(self._billed_s)
        before = self._hours.get(hour, HourSpend(hour, 0.0, 0.0))
        self._hours[hour] = HourSpend(hour, before.replicas_usd + replicas_usd, before.jobs_usd + jobs_usd)
        self._hours.pop(hour - _KEEP_HOURS * HOUR_S, None)
        self._billed_s = to_s

    # --- Backend ---

    def state(self) -> ClusterState:
        with self._lock:
            live = self.engine.live().tolist()
            gone = sorted(self._seen_live.difference(live))
            self._seen_live = set(live)
            notices = self._notices()
            hour = hour_start(self.engine.now_s)
            here = self._hours.get(hour, HourSpend(hour, 0.0, 0.0))
            before = self._hours.get(hour - HOUR_S)
            return ClusterState(
                at_s=self.engine.now_s,
                replicas=self._replicas(live),
                gone=self._replicas(gone),
                jobs=() if self._jobs is None else self._jobs.views(),
                notices=notices,
                hours=(here,) if before is None else (before, here),
            )

    def _replicas(self, numbers: Sequence[int]) -> tuple[Replica, ...]:
        if not numbers:
            return ()
        a, now, boot_s, offers = self.engine.a, self.engine.now_s, self.site.boot_s, self.site.offers
        rows = a.replica[numbers]
        columns = (rows[name].tolist() for name in ("state", "requested", "ready", "gone", "ended", "running", "offer"))
        replicas = []
        for number, state, requested, ready, gone, ended, running, offer in zip(numbers, *columns, strict=True):
            if state == kernel.COMING:
                word = ReplicaState.BOOTING if now < requested + boot_s else ReplicaState.LOADING
            else:
                word = _STATES[state]
            replicas.append(
                Replica(
                    id=replica_id(number),
                    service=self.site.service,
                    offer_id=offers[offer].id,
                    state=word,
                    requested_s=requested,
                    ready_s=None if math.isnan(ready) or ready > now else ready,
                    gone_s=ended if not math.isnan(ended) else gone if math.isfinite(gone) else None,
                    busy=running >= 0,
                    running_tier=self.site.tiers[int(a.request[running]["tier"])].name if running >= 0 else None,
                )
            )
        return tuple(replicas)

    def _notices(self) -> tuple[Notice, ...]:
        log, self._log = self._log, []
        rows, offers = self.engine.a.replica, self.site.offers
        return tuple(
            Notice(
                row.at_s,
                _LOG_KINDS[row.kind],
                self.site.service,
                offers[int(rows[row.replica]["offer"])].id,
                replica_id(row.replica),
                f"lost in {rows[row.replica]['gone'] - row.at_s:.0f} s" if row.kind == kernel.LOG_NOTICE else "",
            )
            for row in log
        )

    def apply(self, action: Action) -> ActionResult:
        with self._lock:
            if action.id not in self._results:
                self._asked = True
                self._results[action.id] = self._apply(action)
                if len(self._results) > _REMEMBERED_RESULTS:
                    del self._results[next(iter(self._results))]
            return self._results[action.id]

    def _apply(self, action: Action) -> ActionResult:
        replicas = (ActionKind.START_REPLICA, ActionKind.RELEASE_REPLICA)
        if action.kind in replicas and action.service != self.site.service:
            raise UnknownSubject(f"no service {action.service!r} in the simulated cluster")
        if action.kind is ActionKind.START_REPLICA:
            return self._start(action)
        if action.kind is ActionKind.RELEASE_REPLICA:
            number = replica_number(action.replica_id)
            if number is None or number >= self.engine.replicas:
                raise UnknownSubject(f"no replica {action.replica_id!r} in the simulated cluster")
            gone = self.engine.release(number)
            status = ActionStatus.CONFIRMED if gone else ActionStatus.ACCEPTED
            return ActionResult(action.id, status, "gone" if gone else "ends after its request", action.replica_id)
        if self._jobs is None or action.job_id is None:
            raise UnknownSubject(f"no job {action.job_id!r} in the simulated cluster")
        act = {
            ActionKind.SUSPEND_JOB: self._jobs.suspend,
            ActionKind.RESUME_JOB: self._jobs.resume,
            ActionKind.KILL_JOB: self._jobs.kill,
        }[action.kind]
        return ActionResult(action.id, *act(action.job_id, self.engine.now_s))

    def _start(self, action: Action) -> ActionResult:
        if action.offer_id not in self._offers:
            raise UnknownSubject(f"no offer {action.offer_id!r} in the simulated cluster")
        number = self.start(action.offer_id)
        if number is None:
            zone = self.site.offers[self._offers[action.offer_id]].zone
            return ActionResult(action.id, ActionStatus.REFUSED, f"no spot capacity in {zone}")
        return ActionResult(action.id, ActionStatus.ACCEPTED, "", replica_id(number))

    def start(self, offer_id: str, *, ready_at_once: bool = False) -> int | None:
        """A replica of the offer, by number; None where its zone has no room."""
        with self._lock:
            index = self._offers[offer_id]
            offer = self.site.offers[index]
            spot = offer.market is Market.SPOT
            zone = self._zone_names.index(offer.zone) if spot else -1
            load_s = float(model_loads_s(self.site, np.array([self.engine.replicas]))[0])
            number = self.engine.start(
                speed=offer.speed_ratio,
                spot=spot,
                zone=zone,
                cold_start_s=self.site.boot_s + load_s,
                ready_at_once=ready_at_once,
            )
            if number is not None:
                self.engine.a.replica[number]["offer"] = index
                self._seen_live.add(number)
            return number

    def spend(self) -> Spend:
        """What the present clock hour has cost and what burns now, without taking anything from the next `state`."""
        with self._lock:
            hour = hour_start(self.engine.now_s)
            here = self._hours.get(hour, HourSpend(hour, 0.0, 0.0))
            burn = float(self._price[self.engine.a.replica[self.engine.live()]["offer"]].sum())
            jobs = () if self._jobs is None else self._jobs.views()
            running = (job for job in jobs if job.state in (JobState.QUEUED, JobState.RUNNING))
            jobs_burn = sum(job.price_usd_per_hour or 0.0 for job in running)
            return Spend(hour, here.replicas_usd + here.jobs_usd, burn, jobs_burn)

    def degrade(self, service: str, speed_factors: Mapping[str, float]) -> None:
        """Requests that start from now on run so many times as fast; what runs goes on as it began."""
        with self._lock:
            self.engine.a.tier["factor"] = [speed_factors.get(tier, 1.0) for tier in self._tiers]

    def job_views(self) -> tuple[Job, ...]:
        """The jobs as they stand, without taking anything from the next `state`."""
        with self._lock:
            return () if self._jobs is None else self._jobs.views()

    # --- Telemetry ---

    def telemetry_s(self, service: str) -> float | None:
        return self._telemetry_s

    def silence(self, until_s: float) -> None:
        """Telemetry stops being measured until then (a scenario's bad day); requests go on."""
        with self._lock:
            self._silent_until_s = until_s

    def samples(self, service: str, since_s: float, until_s: float) -> tuple[Sample, ...]:
        with self._lock:
            # Minutes before the cluster was there were not measured: absent, not empty.
            since_s, until_s = max(since_s, self._start_s), min(until_s, self.engine.now_s)
            if self._silent_until_s > self.engine.now_s:
                until_s = min(until_s, self._telemetry_s or 0.0)
            return readings.samples(self.engine, service, self._tiers, since_s, until_s, waits=self._measure_waits)

    def queues(self, service: str) -> tuple[QueueReading, ...]:
        with self._lock:
            return readings.queues(self.engine, self._tiers)

    def activity(self, service: str, since_s: float, until_s: float) -> tuple[float, FloatArray] | None:
        with self._lock:
            until_s = min(until_s, self.engine.now_s)
            if self._silent_until_s > self.engine.now_s:
                until_s = min(until_s, self._telemetry_s or 0.0)
            if until_s - self._meter.end_s >= BIN_S:
                first, last = (self.engine.first_after(at_s) for at_s in (self._meter.end_s, until_s))
                rows = self.engine.a.request[first:last]
                fresh = self._meter.count(rows["arrived"], rows["tier"], rows["tenant"].astype(np.int64), until_s)
                self._bins = np.concatenate([self._bins, fresh], axis=2)[:, :, -_KEPT_BINS:]
            first_s = self._meter.end_s - BIN_S * self._bins.shape[2]
            skip = max(0, math.ceil((since_s - first_s) / BIN_S - 1e-9))
            if skip >= self._bins.shape[2]:
                return None
            return first_s + BIN_S * skip, self._bins[:, :, skip:]

    def latency(self, service: str, target: TierTarget) -> LatencyReading:
        with self._lock:
            return readings.latency(self.engine, self._tiers, target)

    def work(self) -> tuple[float, float]:
        """Mean execution seconds on the reference GPU and its squared coefficient of variation, of the latest
        requests.
        """
        tier = self.engine.a.tier
        return float(tier["mean"].mean()), self.engine.work_scv()

    def work_by_tier(self) -> Mapping[str, tuple[float, float]]:
        """The same of each tier."""
        rows = zip(self._tiers, self.engine.a.tier["mean"].tolist(), self.engine.a.tier["square"].tolist(), strict=True)
        return {tier: (mean, max(0.0, square / mean**2 - 1.0)) for tier, mean, square in rows}

    # --- demo controls ---

    def surge(self, factor: float, duration_s: float) -> int:
        """Extra requests from now on; how many."""
        with self._lock:
            self._asked = True
            if self._feed is None:
                raise UnknownSubject("a surge needs a feed of requests")
            self._surges += 1
            now = self.engine.now_s
            extra = self._feed.surge(self._surges, factor, now, now + duration_s)
            self.engine.expect(extra)
            return len(extra)

    def submit(self, spec: JobSpec) -> None:
        """A job from outside the stream. ValueError when its id is taken."""
        with self._lock:
            self._asked = True
            if self._jobs is None:
                raise UnknownSubject("this cluster runs no jobs")
            self._jobs.submit(spec)

    def follow(self, recorded: Recorded) -> None:
        """Requests that are not fed yet come with these tiers (an envelope with other shares or another salt)."""
        with self._lock:
            if self._feed is not None:
                self._feed = self._feed.with_recorded(recorded)

    def lose_zone(self, zone: str, duration_s: float) -> float:
        """Spot capacity of the zone goes after the notice and comes back duration_s later; when it goes."""
        with self._lock:
            self._asked = True
            if zone not in self._zone_names:
                raise UnknownSubject(f"no spot zone {zone!r}; there are {', '.join(self._zone_names)}")
            index = self._zone_names.index(zone)
            series, from_s = self._zones[index], self.engine.now_s + self.site.notice_s
            to_s = from_s + duration_s
            at = np.searchsorted(series.change_s, to_s, side="right") - 1
            after = series.capacity[at] if at >= 0 else -1
            inside = (series.change_s > from_s) & (series.change_s <= to_s)
            order_s = np.concatenate([series.change_s[~inside], [from_s, to_s]])
            capacity = np.concatenate([series.capacity[~inside], [0, after]])
            order = np.argsort(order_s, kind="stable")
            self._zones[index] = ZoneSeries(order_s[order], capacity[order].astype(np.int64))
            self.engine.set_zones(self._zones)
            return from_s

    @property
    def zone_names(self) -> tuple[str, ...]:
        return tuple(self._zone_names)

    @property
    def repeats(self) -> int:
        """How many times the trace's last week has begun again."""
        return 0 if self._feed is None else self._feed.repeats(self.engine.now_s)

    # --- keeping ---

    def save(self) -> None:
        """Write the whole state beside the old one and put it in its place at once. Where nothing was asked for
        since the last time, now and then is enough: what happened by itself happens the same way again.
        """
        with self._lock:
            if self._file is None or not (self._asked or self.engine.now_s - self._saved_s >= _SAVE_EVERY_S):
                return
            self._asked, self._saved_s = False, self.engine.now_s
            arrays = self.engine.snapshot()
            for i, zone in enumerate(self._zones):
                arrays |= {f"zone_{i}_s": zone.change_s, f"zone_{i}_capacity": zone.capacity}
            kept = {
                "start_s": self._start_s,
                "fed_s": self._fed_s,
                "billed_s": self._billed_s,
                "hours": [asdict(hour) for hour in self._hours.values()],
                "surges": self._surges,
                "telemetry_s": self._telemetry_s,
                "seen_live": sorted(self._seen_live),
                "log": [[row.at_s, row.kind, row.replica, row.request] for row in self._log],
                "offers": list(self._offers),
                "results": [
                    [result.action_id, result.status.value, result.detail, result.replica_id]
                    for result in list(self._results.values())[-_KEPT_RESULTS:]
                ],
                "jobs": None if self._jobs is None else self._jobs.snapshot(),
            }
            draft = self._file.with_suffix(".draft")
            draft.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, meta=np.array(json.dumps(kept)), **arrays)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)

    def keep_in(self, file: Path | None) -> None:
        """Where `save` writes from now on; None: nowhere."""
        with self._lock:
            self._file, self._asked = file, True

    def restore(self, file: Path) -> bool:
        """Take up the state saved in a file; False where there is none. ValueError when it was saved for other
        offers.
        """
        if not file.exists():
            return False
        with self._lock, np.load(file, allow_pickle=False) as saved:
            kept = json.loads(str(saved["meta"]))
            if kept["offers"] != list(self._offers):
                raise ValueError("it was saved with other offers")
            self.engine.restore(saved)
            self._start_s, self._fed_s, self._billed_s = kept["start_s"], kept["fed_s"], kept["billed_s"]
            self._hours = {hour["hour_s"]: HourSpend(**hour) for hour in kept["hours"]}
            self._surges, self._telemetry_s = kept["surges"], kept["telemetry_s"]
            self._seen_live = set(kept["seen_live"])
            self._log = [LogRow(*row) for row in kept.get("log", [])]
            zones = range(len(self._zones))
            self._zones = [ZoneSeries(saved[f"zone_{i}_s"], saved[f"zone_{i}_capacity"]) for i in zones]
            self._results = {
                action_id: ActionResult(action_id, ActionStatus(status), detail, replica)
                for action_id, status, detail, replica in kept["results"]
            }
            if self._jobs is not None and kept["jobs"] is not None:
                self._jobs.restore(kept["jobs"])
            oldest = self.engine.a.request["arrived"][: self.engine.arrived]
            self._count_from(float(oldest[0]) if len(oldest) else self.engine.now_s)
        return True


def model_loads_s(site: Site, numbers: npt.NDArray[np.int64]) -> FloatArray:
    """The model load of each replica by its number, sampled from the measured ones."""
    pick = uniform(site.seed, numbers, np.array([0]), 424_243)
    return site.load_times_s[(pick * len(site.load_times_s)).astype(np.int64)]


def replica_id(number: int) -> str:
    """The name of replica `number`."""
    return f"r-{number:06d}"


def replica_number(identifier: str | None) -> int | None:
    """The number of a name that `replica_id` gave; None for any other."""
    if identifier is None or not identifier.startswith("r-") or not identifier[2:].isdigit():
        return None
    return int(identifier[2:])
