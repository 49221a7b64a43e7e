"""How well each forecasting model did, and which one leads."""

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.queries import demand
from dashboard.queries.standing import read_standing


@session.live
def render(tier: str) -> None:
    """Each model's rolling score; the one with the lowest pinball loss leads."""
    scores = demand.read_scores()
    whole = "+".join(read_standing().tiers)
    if not scores.empty:
        wanted = whole if tier == demand.ALL else tier
        told = scores[scores["tier"] == wanted]
        scores = told if len(told) or tier != demand.ALL else scores
    with cards.head("accuracy", "Accuracy by model", "Rolling, over past origins. The lowest pinball loss leads"):
        cards.csv(scores, "forecast-accuracy", "accuracy")
    if scores.empty:
        states.empty("No scores yet", "A model is scored when the time that it forecast has come.", "leaderboard")
        return
    order = {name: number for number, name in enumerate(read_standing().tiers)}
    scores = scores.assign(
        order=scores["tier"].map(order), wape=scores["wape"] * 100, coverage_p90=scores["coverage_p90"] * 100
    )
    scores = scores.sort_values(["step_s", "order", "pinball"], ignore_index=True)
    scores["leader"] = ["● Leads" if leads else "" for leads in scores["leads"]]
    scores["model"] = scores["model"].map(formats.model)
    scores["note"] = [formats.sentence(note or "") for note in scores["note"]]
    scores["grid"] = ["Next hour" if step == 60 else "Next day" for step in scores["step_s"]]
    scores["tier"] = ["All tiers" if name == whole else formats.words(name) for name in scores["tier"]]
    columns = {
        "grid": cards.text_column("Grid", 90),
        "tier": cards.text_column("Tier", 100),
        "model": cards.text_column("Model", 170),
        "leader": cards.text_column("", 80),
        "pinball": cards.number_column(
            "Pinball loss", 96, "%.3f", help="Mean over quantiles and steps, busy GPUs. Lower is better"
        ),
        "wape": cards.number_column("WAPE", 76, "%.1f%%", help="Sum of absolute errors of p50 over the sum of load"),
        "coverage_p90": cards.number_column(
            "Under p90", 84, "%.0f%%", help="Share of steps at or under the p90 forecast. Aim 90%"
        ),
        "origins": cards.number_column("Origins", 70),
        "note": cards.text_column("Note", 200),
    }
    cards.grid(
        scores,
        columns,
        key="forecast-scores",
        alt="Accuracy of each forecasting model by grid and tier",
        height="content",
    )
