"""What may be pushed: the values of outside signals. They are facts and not wishes, so they are kept at once, without
an intent: pushed twice they change nothing, and whether a forecast uses them is decided by the backtest.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import col, select

from controller.api.answers import Answer
from controller.api.asking import known_service, refused
from controller.api.context import InContext, InSession
from controller.clock import to_seconds
from controller.core.points import LONGEST_STALE_S, MOST_PUSHED, NAME, BadPoint, checked
from controller.store.signals import TooManySignals, put_signal, put_values
from models.signals import SignalRow, SignalValue

router = APIRouter(prefix="/v1", tags=["pushing"])


class PushedPoint(BaseModel):
    """A value from a time on, until the next. What is not known is left out."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime
    value: float = Field(strict=True, allow_inf_nan=False)


class PushSignal(BaseModel):
    """Values of a signal; the first push makes it. What is said of the signal itself holds until it is said anew."""

    model_config = ConfigDict(extra="forbid")

    service: str = Field(default="images", max_length=100)
    author: str = Field(min_length=1, max_length=200, description="Who or what sends it.")
    points: list[PushedPoint] = Field(max_length=MOST_PUSHED)
    unit: str | None = Field(default=None, max_length=40)
    known_ahead: bool | None = Field(default=None, description="Its future values are known too, as with bookings.")
    stale_after_s: float | None = Field(default=None, ge=60, le=LONGEST_STALE_S, allow_inf_nan=False)


class PushedAnswer(Answer):
    """What became of the points. `skipped`: repeated in the push, or too old to keep."""

    name: str
    service: str
    added: int
    changed: int
    unchanged: int
    skipped: int


class SignalAnswer(Answer):
    """A signal as registered. Its newest value's time is null when it has none."""

    name: str
    service: str
    unit: str
    known_ahead: bool
    stale_after_s: float
    author: str
    created_at: datetime
    values: int
    newest_at: datetime | None


@router.post("/signals/{name}")
def push_signal(
    name: Annotated[str, Path(pattern=f"^{NAME.pattern}$")], push: PushSignal, context: InContext, session: InSession
) -> PushedAnswer:
    """Keeps the points, all or none. In any order, and repeated: the same points change nothing the second time.

    422 names the point and what is wrong with it: no finite number, a time ahead of now for a signal that is not known
    ahead, nothing of the last 60 days.
    """
    known_service(session, push.service)
    now_s = to_seconds(context.now())
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        session.rollback()
        connection = session.connection()
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # read and then written: another writer may not come between
    try:
        signal = put_signal(
            connection,
            push.service,
            name,
            unit=push.unit,
            known_ahead=push.known_ahead,
            stale_after_s=push.stale_after_s,
            author=push.author.strip() or "unknown",
            now_s=now_s,
        )
        pairs = [(to_seconds(point.at), point.value) for point in push.points]
        points = checked(pairs, now_s, signal.known_ahead)
        taken = put_values(connection, signal.id, points)
    except BadPoint as bad:
        session.rollback()
        field = f"points[{bad.index}].{bad.column}" if push.points else "points"
        raise refused(field, str(bad), None) from bad
    except TooManySignals as error:
        session.rollback()
        raise refused("name", str(error), None) from error
    session.commit()
    return PushedAnswer(
        name=name,
        service=push.service,
        added=taken.added,
        changed=taken.changed,
        unchanged=taken.unchanged,
        skipped=len(pairs) - len(points),
    )


@router.get("/signals")
def signals(session: InSession, service: str | None = None) -> list[SignalAnswer]:
    """Every signal, with how many values are kept and when the newest begins."""
    about = (
        select(SignalRow, func.count(col(SignalValue.id)), func.max(SignalValue.at))
        .join(SignalValue, col(SignalValue.signal_id) == col(SignalRow.id), isouter=True)
        .group_by(col(SignalRow.id))
        .order_by(col(SignalRow.service), col(SignalRow.name))
    )
    if service is not None:
        about = about.where(SignalRow.service == service)
    return [
        SignalAnswer(
            name=row.name,
            service=row.service,
            unit=row.unit,
            known_ahead=row.known_ahead,
            stale_after_s=row.stale_after_s,
            author=row.author,
            created_at=row.created_at,
            values=count,
            newest_at=newest,
        )
        for row, count, newest in session.exec(about)
    ]
