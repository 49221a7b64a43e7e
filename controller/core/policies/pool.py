"""What an autoscaler of one pool looks at: requests in flight, replicas that serve and that come, all of one offer."""

from dataclasses import dataclass

from controller.core.finance import cheapest_per_speed
from controller.core.plan import COMING, hold, staying
from controller.core.types import Observation, Offer, Plan, Reason, Series
from models.enums import Limit, Market, ReplicaState


@dataclass(frozen=True, slots=True)
class Pool:
    """`offer` None: no usable on-demand offer has a known price. `in_flight` counts what waits and what runs."""

    offer: Offer | None
    in_flight: int
    ready: int
    coming: int

    @property
    def current(self) -> int:
        return self.ready + self.coming


def pool_of(seen: Observation) -> Pool:
    """The whole service as one pool of the on-demand offer that is cheapest for its speed."""
    return Pool(
        cheapest_per_speed([standing.offer for standing in seen.offers if standing.usable], Market.ON_DEMAND),
        sum(queue.queued + queue.running for queue in seen.queues),
        sum(replica.state is ReplicaState.READY for replica in seen.replicas),
        sum(replica.state in COMING for replica in seen.replicas),
    )


def unmeasured(seen: Observation, plan_id: str, policy: str) -> Plan | None:
    """The plan of an autoscaler whose metrics are missing: it holds what is there. None: they aren't."""
    if not seen.stale:
        return None
    age_s = seen.telemetry_age_s
    word = "never reported" if age_s is None else f"is {age_s:.0f} s old, over {seen.stale_after_s:.0f} s"
    reason = Reason(Limit.STALE_TELEMETRY, f"telemetry {word}: held", {"age_s": age_s})
    return hold(seen, plan_id, policy, reason, len(staying(seen)))


def total_load(seen: Observation) -> Series | None:
    """The measured minutes of all tiers together; None: nothing was measured yet."""
    return seen.load.get("+".join(tier.name for tier in seen.envelope.tiers))
