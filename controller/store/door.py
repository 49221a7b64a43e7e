"""The one door to the database for the controller."""

from sqlalchemy import delete

from controller.store.convert import moment
from controller.store.envelopes import Envelopes
from controller.store.events import Events
from controller.store.forecasts import Forecasts
from controller.store.heartbeat import Heartbeat
from controller.store.intents import Intents
from controller.store.jobs import Jobs
from controller.store.overrides import Overrides
from controller.store.pending import table_of
from controller.store.pools import Pools
from controller.store.prospects import Prospects
from controller.store.replays import Replays
from controller.store.replicas import Replicas
from controller.store.retention import Retention
from controller.store.settlements import Settlements
from controller.store.signals import Signals
from controller.store.surges import Surges
from controller.store.telemetry import Telemetry
from models.fleet import ClockRow, ControllerPulse, ReplicaRow
from models.forecasts import ForecastParameters, ForecastRow, ForecastScore, ForecastStanding
from models.guardrails import GuardrailEvent
from models.intents import OverrideRow
from models.jobs import JobAttempt, JobRow
from models.ledger import DecisionSettlement, Settlement
from models.offers import OfferRow
from models.plans import ActionRow, PlanRow
from models.prospects import ProspectRow
from models.surges import SurgeLook, SurgeRow
from models.telemetry import DemandMinute, FleetMinute, SpendHour, TermReading

_OF_THIS_RUN = (
    ActionRow, ClockRow, ControllerPulse, DecisionSettlement, DemandMinute, FleetMinute, ForecastParameters,
    ForecastRow, ForecastScore, ForecastStanding, GuardrailEvent, JobAttempt, JobRow, OfferRow, PlanRow, ProspectRow,
    ReplicaRow, Settlement, SpendHour, SurgeLook, SurgeRow, TermReading,
)  # fmt: skip


class Store(
    Envelopes,
    Overrides,
    Intents,
    Replicas,
    Pools,
    Telemetry,
    Settlements,
    Forecasts,
    Surges,
    Jobs,
    Events,
    Signals,
    Replays,
    Prospects,
    Heartbeat,
    Retention,
):
    """All that the controller remembers. Every write first passes the fence: `check_epoch(session, epoch())`.

    Outside `batch()` each call that writes is a transaction of its own, durable when it returns.
    """

    def start_over(self, now_s: float) -> None:
        """Forgets the run of a simulated cluster, for the demo's reset: what was measured, planned, done and settled.

        Operators' intents, envelopes, rules, what-if runs and the ledger stay, and numbers of plans go on where the
        ledger has them. Overrides in force end. now_s: when the new run begins.
        """
        with self._write() as session:
            number = self._last_number()
            for model in _OF_THIS_RUN:
                session.connection().execute(delete(table_of(model)))
            self._forget()
            self._number = number
            for override in tuple(self._not_ended().values()):
                self._pending.change(
                    OverrideRow, (override.id,), {"ended_at": moment(now_s), "ended_why": "the demo was reset"}
                )
            self._open = {}
