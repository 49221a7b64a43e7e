"""The cap binds, and gives way to nothing but a signature."""

from models.enums import IntentKind, IntentStatus, Limit
from tests.backends.small_world import T0
from tests.scenarios.conftest import BY_ID, HOUR, MINUTE, document


def hour_usd(story) -> float:
    hour = story.cluster.state().hours[-1]
    return hour.replicas_usd + hour.jobs_usd


def test_a_cap_sheds_background_first_and_premium_last(begin) -> None:
    # Twelve erlangs would cost seven dollars an hour. The envelope allows 4.40.
    story = begin(1.0, 6.0, 5.0, cap=4.4).until(2 * HOUR - 1)
    capped = [plan for plan in story.plans(HOUR) if plan.bound.limit is Limit.SPEND_CAP]
    assert len(capped) > 100
    assert "$4.40" in capped[0].bound.text
    assert {plan.shed[:1] for plan in capped if plan.shed} == {("background",)}
    # Premium gives way only where a burst of its own is more than the whole cap buys: now and then.
    assert sum("premium" in plan.shed for plan in capped) < len(capped) / 10
    # The hour keeps within it, and who pays most waits least.
    assert hour_usd(story) <= 4.4
    premium, standard, background = (story.waits(k, HOUR, 2 * HOUR - 1).mean() for k in range(3))
    assert premium < 0.2
    assert premium < standard < background
    assert background > 300


def test_a_tighter_envelope_rules_from_the_next_tick(begin) -> None:
    story = begin(1.0, 6.0, 5.0).until(10 * MINUTE)
    before = story.size()
    asked = story.ask(IntentKind.APPLY_ENVELOPE, document=document(6.0), base_version=1, signed=True)
    story.until(11 * MINUTE)
    assert story.intent(asked).status == IntentStatus.APPLIED
    assert story.plan.bound.limit is Limit.SPEND_CAP
    assert story.size() < before
    assert story.plan_rows()[-1].envelope_version == 2


def test_the_hour_that_is_spent_is_spent(begin) -> None:
    story = begin(1.0, 6.0, 5.0, cap=2.0).until(HOUR - 1)
    # The first fleet was not Heddle's choice and burned $14 an hour; what was left of two dollars is what it had.
    assert hour_usd(story) <= 2.0 + 14 * 30 / HOUR
    burns = [
        sum(BY_ID[offer].price_usd_per_hour * count for offer, count in plan.desired_by_offer.items())
        for plan in story.plans(5 * MINUTE)
    ]
    assert max(burns) <= 2.0 * 1.25 + 1e-9


def test_a_pin_above_the_cap_needs_a_signature(begin) -> None:
    story = begin(cap=6.0).until(10 * MINUTE)
    unsigned = story.ask(IntentKind.OVERRIDE, kind="pin", replicas=30, minutes=30)
    story.until(11 * MINUTE)
    assert story.intent(unsigned).status == IntentStatus.REFUSED
    assert "nearest: 15 replicas" in story.intent(unsigned).status_reason
    signed = story.ask(IntentKind.OVERRIDE, kind="pin", replicas=30, minutes=30, signed_over_cap=True)
    story.until(12 * MINUTE)
    assert story.intent(signed).status == IntentStatus.APPLIED
    assert story.size() == 30
    assert (story.plan.desired, story.plan.bound.limit) == (30, Limit.OVERRIDE)
    # When it ends, by itself, the cap takes back what it can.
    story.until(45 * MINUTE)
    assert story.size() < 30
    assert story.plan.bound.limit is Limit.SPEND_CAP
    assert story.plan.made_s > T0 + 41 * MINUTE
