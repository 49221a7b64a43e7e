"""`python -m controller replay`: from files and flags to a `ReplaySpec`, and from its result to files. Refuses with
one line.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from time import monotonic

import yaml

from controller.core.envelope import EnvelopeError, EnvelopeFacts, EnvelopeProblem, check_envelope, parse_envelope
from controller.core.types import Envelope, Offer
from controller.replay import SERVICE, ReplaySpec, Summary, run_replay, spot_zones, zones_of
from controller.replay_policies import PolicyError, parse_policy
from controller.sources.base import InputError, RequestTrace
from controller.sources.offers import read_offers
from controller.sources.times import flag_time
from controller.sources.traces import parse_zone_map, read_availability, read_load_times, read_requests

DEFAULT_LOAD_TIMES = Path(str(files("controller"))).parent / "data/traces/gentd26_base_model_load_ms.csv.gz"
_DAY_S = 86400.0
# Availability is laid out past the window for the drain.
_DRAIN_S = 15 * _DAY_S


def run(args: argparse.Namespace) -> int:
    """Replay and write. Raises InputError and EnvelopeError before anything is written."""
    spec = read_spec(args)
    shown = _Progress(sys.stderr.isatty())
    try:
        result = run_replay(spec, shown)
    except PolicyError as error:
        raise InputError("--policy", None, None, error.reason, error.nearest) from error
    except ValueError as error:
        raise InputError(
            str(args.requests), None, None, str(error), "see `python -m controller replay --help`"
        ) from error
    result.write(args.out)
    print(report(result.summary))
    print(f"written: {args.out}/summary.json, replicas.csv, requests.csv")
    return 0


def read_spec(args: argparse.Namespace) -> ReplaySpec:
    """Everything read and checked."""
    try:
        parse_policy(args.policy)
    except PolicyError as error:
        raise InputError("--policy", None, None, error.reason, error.nearest) from error
    for flag, value, least in (
        ("--scale", args.scale, 1),
        ("--jitter-s", args.jitter_s, 0),
        ("--boot-s", args.boot_s, 0),
    ):
        if not (math.isfinite(value) and value >= least):
            raise InputError(flag, None, None, f"{value} is below {least}", f"give at least {least}")
    if not 0 <= args.seed < 2**32:
        raise InputError("--seed", None, None, f"{args.seed} is no seed", "give a whole number from 0 to 4294967295")
    if args.out.exists() and not args.out.is_dir():
        raise InputError("--out", None, None, f"{args.out} is no folder", "name a folder, or one to be made")
    requests = read_requests(args.requests)
    envelope = read_envelope(args.envelope)
    offers, problems = read_offers(args.offers)
    for problem in problems:
        print(f"{args.offers}: {problem}", file=sys.stderr)
    if not offers:
        raise InputError(str(args.offers), None, None, "no offer in it can be used", "see the lines above")
    for problem_ in envelope_problems(envelope, requests, offers):
        print(f"{args.envelope}: {problem_.field}: {problem_.reason} (nearest: {problem_.nearest})", file=sys.stderr)
    from_s, to_s = window_of(requests, args.from_, args.to)
    series = {} if args.spot is None else read_availability(args.spot)
    zone_map = parse_zone_map(args.spot_zones, series)
    for zone in zone_map:
        if zone not in zones_of(offers):
            known = ", ".join(zones_of(offers)) or "none"
            raise InputError("--spot-zones", None, None, f"no spot is offered in {zone!r}", f"zones of offers: {known}")
    return ReplaySpec(
        requests=requests,
        history=None if args.history is None else read_requests(args.history),
        from_s=from_s,
        to_s=to_s,
        policy=args.policy,
        envelope=envelope,
        offers=offers,
        load_times_s=read_load_times(args.load_times or DEFAULT_LOAD_TIMES),
        zones=spot_zones(series, zone_map, zones_of(offers), from_s, to_s + _DRAIN_S, args.spot_offset_ticks),
        scale=args.scale,
        jitter_s=args.jitter_s,
        boot_s=args.boot_s,
        seed=args.seed,
    )


def read_envelope(path: Path) -> Envelope:
    """The envelope of a YAML file. InputError, or EnvelopeError naming the file and the field."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise InputError(
            str(path), None, None, problem, "give a YAML file with tiers and spend_cap_usd_per_hour"
        ) from error
    try:
        return parse_envelope(document, SERVICE)
    except EnvelopeError as error:
        raise EnvelopeError(f"{path}: {error.field}", error.reason, error.nearest) from error


def envelope_problems(
    envelope: Envelope, requests: RequestTrace, offers: Sequence[Offer]
) -> tuple[EnvelopeProblem, ...]:
    """What the facts say against the envelope. A replay may run it all the same: to see is what it is for."""
    cheapest = min(offer.price_usd_per_hour for offer in offers)
    names = tuple(tier.name for tier in envelope.tiers)
    return check_envelope(envelope, EnvelopeFacts(names, float(requests.work_s.mean()), cheapest))


def window_of(requests: RequestTrace, from_: str | None, to: str | None) -> tuple[float, float]:
    """The window in epoch seconds: whole hours, by default from the hour of the first request to the one after the
    last.
    """
    first_s, last_s = float(requests.arrived_s[0]), float(requests.arrived_s[-1])
    from_s = math.floor(first_s / 3600) * 3600.0 if from_ is None else flag_time("--from", from_)
    to_s = (math.floor(last_s / 3600) + 1) * 3600.0 if to is None else flag_time("--to", to)
    if from_s % 3600:
        raise InputError(
            "--from", None, None, f"{from_} is no whole hour", "dollars are counted by the clock hour: give one"
        )
    if to_s <= from_s:
        raise InputError("--to", None, None, "the window ends before it begins", "give a later --to")
    return from_s, to_s


class _Progress:
    """A line that counts up on a terminal, and one line a tenth elsewhere."""

    def __init__(self, terminal: bool) -> None:
        self._terminal, self._began, self._said = terminal, monotonic(), -1

    def __call__(self, done: float) -> None:
        step = int(done * (100 if self._terminal else 10))
        if step == self._said:
            return
        self._said = step
        text = f"replaying: {done:4.0%} in {monotonic() - self._began:.0f} s"
        print(
            f"\r{text}" if self._terminal else text,
            end="" if self._terminal and done < 1 else "\n",
            file=sys.stderr,
            flush=True,
        )


def report(summary: Summary) -> str:
    """The summary for people."""
    within = summary.hours_within_cap_ratio
    lines = [
        f"{summary.policy}: {summary.requests:,} requests "
        f"({summary.requests_skipped} rows of the file were never executed), ${summary.cost_usd:,.2f}, "
        f"{summary.gpu_hours:,.1f} GPU-hours, costliest hour ${summary.costliest_hour_usd:.2f}"
        + ("" if within is None else f", {within:.1%} of hours within the cap"),
        f"{summary.starts:,} starts, {summary.stops:,} stops, at most {summary.peak_replicas} replicas, "
        f"{summary.interrupted:,} requests interrupted, {summary.preempted:,} preempted",
    ]
    if summary.unfinished:
        lines.append(f"{summary.unfinished:,} requests had not finished when the replay was ended")
    for name, tier in summary.tiers.items():
        if tier.wait_mean_s is None:
            lines.append(f"  {name}: no waits measured of {tier.requests} requests")
            continue
        word = "met" if tier.target_met else "missed"
        lines.append(
            f"  {name}: {tier.requests:,} requests, wait mean {tier.wait_mean_s:.3f} s, p95 {tier.wait_p95_s:.2f} s, "
            f"p99 {tier.wait_p99_s:.2f} s, max {tier.wait_max_s:.1f} s: target {word}"
        )
    return "\n".join(lines)
