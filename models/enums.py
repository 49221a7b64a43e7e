"""The words that code, tables, screens and logs share.

Each enum is a `StrEnum`, stored as its text. This module imports nothing of ours and no database, so that the
pure core may use the same words as the tables.
"""

from enum import StrEnum


class Market(StrEnum):
    """How an offer is sold."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    SERVERLESS = "serverless"


class ServiceClass(StrEnum):
    """What kind of service it is, which says how it is scaled."""

    INFERENCE = "inference"
    RENDERING = "rendering"
    DELIVERY = "delivery"
    BATCH = "batch"


class ReplicaState(StrEnum):
    """Where a replica is in its life. BOOTING and LOADING count as capacity that is coming, DRAINING as leaving."""

    BOOTING = "booting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    RELEASED = "released"
    LOST = "lost"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"


class ActionKind(StrEnum):
    """What the controller may ask of a backend."""

    START_REPLICA = "start_replica"
    RELEASE_REPLICA = "release_replica"
    SUSPEND_JOB = "suspend_job"
    RESUME_JOB = "resume_job"
    KILL_JOB = "kill_job"


class ActionStatus(StrEnum):
    """Acting is asynchronous: REQUESTED is written first, ACCEPTED by the backend, CONFIRMED by observation."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class Mode(StrEnum):
    """How far Heddle may go. Later modes include the earlier ones."""

    OBSERVE = "observe"
    ADVISE = "advise"
    ACT = "act"


class LatencyOf(StrEnum):
    WAIT = "wait"
    END_TO_END = "end_to_end"


class EnvelopeStatus(StrEnum):
    """Worst first, as a page shows them."""

    BREACHED = "breached"
    AT_RISK = "at_risk"
    UNKNOWN = "unknown"
    STALE = "stale"
    HELD = "held"


class OverrideKind(StrEnum):
    PIN = "pin"
    FREEZE = "freeze"
    PAUSE = "pause"
    RELAX_CAP = "relax_cap"


class StepKind(StrEnum):
    """One step of the degradation order."""

    WAIT = "wait"
    VARIANT = "variant"
    RELAX_CAP = "relax_cap"


class IntentKind(StrEnum):
    """What an operator may ask for. One row each, through `models.intents`."""

    APPLY_ENVELOPE = "apply_envelope"
    OVERRIDE = "override"
    END_OVERRIDE = "end_override"
    PAUSE_FLEET = "pause_fleet"
    RESUME_FLEET = "resume_fleet"
    APPROVE_RELAXATION = "approve_relaxation"
    KILL_JOB = "kill_job"
    SUSPEND_JOB = "suspend_job"
    RESUME_JOB = "resume_job"
    SET_RULE = "set_rule"
    ADD_EVENT = "add_event"
    CANCEL_EVENT = "cancel_event"
    ADD_SIGNAL = "add_signal"
    REMOVE_SIGNAL = "remove_signal"
    SET_MODE = "set_mode"
    ASK_REPLAY = "ask_replay"
    CANCEL_REPLAY = "cancel_replay"
    DEMO_PAUSE = "demo_pause"
    DEMO_RESUME = "demo_resume"
    DEMO_SPEED = "demo_speed"
    DEMO_SURGE = "demo_surge"
    DEMO_LOSE_ZONE = "demo_lose_zone"
    DEMO_RUNAWAY = "demo_runaway"
    DEMO_RESET = "demo_reset"


class IntentStatus(StrEnum):
    PENDING = "pending"
    APPLIED = "applied"
    REFUSED = "refused"


class ReplayStatus(StrEnum):
    """A what-if run from asking to its end."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LedgerKind(StrEnum):
    DECISION = "decision"
    ACTION = "action"
    ENVELOPE = "envelope"
    OVERRIDE = "override"
    PAUSE = "pause"
    GUARDRAIL = "guardrail"
    INTERRUPTION = "interruption"
    FORECAST = "forecast"
    SETTLEMENT = "settlement"
    MODE = "mode"
    REPLAY = "replay"
    FAILURE = "failure"
    DEMO = "demo"
    CONTROLLER = "controller"


class GuardAction(StrEnum):
    """Mild to severe; a rule escalates to the right."""

    ALERT = "alert"
    THROTTLE = "throttle"
    KILL = "kill"


class RuleMetric(StrEnum):
    COST = "cost"
    PROJECTED_COST = "projected_cost"
    DURATION = "duration"
    NO_PROGRESS = "no_progress"


class SurgeStatus(StrEnum):
    """A surge from the forecast that names it to what came of it."""

    AHEAD = "ahead"
    PREPARING = "preparing"
    CAME = "came"
    CAME_LATE = "came_late"
    DID_NOT_COME = "did_not_come"
    WITHDRAWN = "withdrawn"


class Limit(StrEnum):
    """Which limit bound a decision."""

    NONE = "none"
    STALE_TELEMETRY = "stale_telemetry"
    FLEET_PAUSE = "fleet_pause"
    FREEZE = "freeze"
    SPEND_CAP = "spend_cap"
    OVERRIDE = "override"
    FLOOR = "floor"
    CEILING = "ceiling"
    LATENCY_TARGET = "latency_target"
    BACKLOG = "backlog"
    BURST_RESERVE = "burst_reserve"
    FORECAST = "forecast"
    SURGE_AHEAD = "surge_ahead"
    SURGE_MISSED = "surge_missed"
    SCALE_IN_CHECK = "scale_in_check"
    IDLE_COST = "idle_cost"
    UPSTREAM = "upstream"
    DEADLINE = "deadline"
    VALLEY = "valley"
    NO_CAPACITY = "no_capacity"
    MODE = "mode"
