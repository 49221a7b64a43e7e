"""How often an offer's replicas are taken back: a rate per replica-hour, learned from what was held and what was lost.

Interruptions are counted over the hours that replicas were held, both forgotten with a half-life, and joined with a
prior: the mean of a gamma distribution after Poisson counts (Gelman et al., *Bayesian Data Analysis*, 2.6). Without
exposure it is the prior, and after many hours what was seen.
"""

from dataclasses import dataclass

HALF_LIFE_S = 86_400.0
# What is believed before anything is seen: half an interruption in twenty hours. An assumption, not a measurement.
PRIOR_INTERRUPTIONS = 0.5
PRIOR_HOURS = 20.0
PRIOR_PER_HOUR = PRIOR_INTERRUPTIONS / PRIOR_HOURS


@dataclass(frozen=True, slots=True)
class Exposure:
    """Replica-hours held and interruptions in them, as they count at `at_s` (older ones less)."""

    at_s: float
    hours: float = 0.0
    interruptions: float = 0.0

    def until(self, now_s: float, replicas: int, interruptions: int = 0) -> "Exposure":
        """After `replicas` were held from `at_s` to now_s, and so many of them taken back. Time never runs backwards:
        an earlier now_s counts as no time.
        """
        passed_s = max(0.0, now_s - self.at_s)
        kept: float = 0.5 ** (passed_s / HALF_LIFE_S)
        return Exposure(
            max(now_s, self.at_s),
            self.hours * kept + replicas * passed_s / 3600.0,
            self.interruptions * kept + interruptions,
        )

    @property
    def per_hour(self) -> float:
        """Interruptions to expect of one replica in one hour."""
        return (PRIOR_INTERRUPTIONS + self.interruptions) / (PRIOR_HOURS + self.hours)
