"""A stage of a chain: its class's policy, planning for its own share of what is promised for the whole chain."""

from dataclasses import dataclass, replace

from controller.core.policies.base import Memory, Policy
from controller.core.stages import stage_envelope
from controller.core.types import Observation, Plan


@dataclass(frozen=True, slots=True)
class Staged:
    """Any policy; the share is the first of the plan's reasons."""

    inner: Policy

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def fifo(self) -> bool:
        return self.inner.fifo

    @property
    def forecasts(self) -> bool:
        return self.inner.forecasts

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if len(seen.chain) < 2:
            return self.inner.plan(seen, memory, plan_id)
        envelope, reason = stage_envelope(seen)
        plan, memory = self.inner.plan(replace(seen, envelope=envelope), memory, plan_id)
        return replace(plan, reasons=(reason, *plan.reasons)), memory
