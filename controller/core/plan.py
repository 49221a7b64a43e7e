"""From a desired mix to actions: what to start, what to let go, each with its reason."""

from collections import Counter
from collections.abc import Mapping, Sequence

from controller.core.types import Action, Observation, Offer, Plan, Reason, Replica, Surge
from models.enums import ActionKind, Limit, Mode, ReplicaState

COMING = (ReplicaState.BOOTING, ReplicaState.LOADING)


def staying(seen: Observation) -> list[Replica]:
    """Replicas that serve or will: not draining and not under notice."""
    return [r for r in seen.replicas if r.gone_s is None and (r.state is ReplicaState.READY or r.state in COMING)]


def speeds(seen: Observation) -> Mapping[str, float]:
    """Speed ratio of each offer by its id."""
    return {standing.offer.id: standing.offer.speed_ratio for standing in seen.offers}


def release_order(replica: Replica) -> tuple[bool, bool, float]:
    """Coming before idle before busy, and of these the latest started."""
    return (replica.state not in COMING, replica.busy, -replica.requested_s)


class Actions:
    """Collects a plan's actions and numbers them."""

    def __init__(self, seen: Observation, plan_id: str) -> None:
        self._seen, self._plan_id, self.taken = seen, plan_id, list[Action]()

    def start(self, offer_id: str, count: int, reason: str) -> None:
        for _ in range(count):
            self._add(ActionKind.START_REPLICA, reason, offer_id, None)

    def release(self, replica: Replica, reason: str) -> None:
        self._add(ActionKind.RELEASE_REPLICA, reason, replica.offer_id, replica.id)

    def _add(self, kind: ActionKind, reason: str, offer_id: str | None, replica_id: str | None) -> None:
        identifier = f"a-{self._plan_id}-{len(self.taken) + 1}"
        self.taken.append(Action(identifier, kind, self._seen.service, reason, offer_id, replica_id))


def hold(
    seen: Observation,
    plan_id: str,
    policy: str,
    reason: Reason,
    required: int,
    reasons: Sequence[Reason] = (),
    surges: tuple[Surge, ...] = (),
) -> Plan:
    """Nothing is done: the plan keeps what is there."""
    counts = Counter(replica.offer_id for replica in staying(seen))
    total = sum(counts.values())
    return Plan(
        plan_id,
        seen.service,
        seen.now_s,
        policy,
        required,
        total,
        total,
        dict(counts),
        (),
        reason,
        (*reasons, reason),
        surges=surges,
    )


def one_pool_plan(
    seen: Observation,
    plan_id: str,
    policy: str,
    offer: Offer | None,
    required: int,
    steady: int,
    desired: int,
    reason: Reason,
) -> Plan:
    """All replicas of one offer, as a single Deployment has them: start what is missing, let the surplus go."""
    if offer is None:
        word = Reason(Limit.NO_CAPACITY, "no usable on-demand offer has a known price: held", {})
        return hold(seen, plan_id, policy, word, required)
    actions = Actions(seen, plan_id)
    current = staying(seen)
    if seen.mode is Mode.ACT:
        actions.start(offer.id, desired - len(current), reason.text)
        for replica in sorted(current, key=release_order)[: max(0, len(current) - desired)]:
            actions.release(replica, reason.text)
    return Plan(
        plan_id,
        seen.service,
        seen.now_s,
        policy,
        required,
        steady,
        desired,
        {offer.id: desired},
        tuple(actions.taken),
        reason,
        (reason,),
    )
