"""What a draft of an envelope is checked against, as known now."""

from controller.core.envelope import EnvelopeFacts
from dashboard.queries.demand import read_execution_mean_s
from dashboard.queries.fleet import cheapest_usd_per_hour
from dashboard.queries.standing import read_standing


def read_facts() -> EnvelopeFacts | None:
    """None while the tiers, the execution time or the prices are not known yet: then only the controller can judge."""
    standing = read_standing()
    execution, price = read_execution_mean_s(), cheapest_usd_per_hour()
    if not standing.tiers or execution is None or price is None:
        return None
    return EnvelopeFacts(known_tiers=standing.tiers, execution_mean_s=execution, cheapest_usd_per_hour=price)
