"""Acting: a plan's actions, one after the other, each at most once. Decides nothing."""

from collections.abc import Iterable

from controller.backends.base import Backend, BackendUnavailable, UnknownSubject
from controller.core.types import Action, ActionResult
from models.enums import ActionKind, ActionStatus


def act(actions: Iterable[Action], backend: Backend) -> tuple[ActionResult, ...]:
    """What the backend answered. After a refused start the same offer's other starts of this plan are refused
    unasked: a market that has just said no is not asked forty times. An action that could not be asked stays
    requested and is asked again at the next tick.
    """
    results: list[ActionResult] = []
    empty: dict[str, str] = {}
    for action in actions:
        start = action.kind is ActionKind.START_REPLICA
        if start and action.offer_id in empty:
            results.append(ActionResult(action.id, ActionStatus.REFUSED, empty[action.offer_id]))
            continue
        try:
            result = backend.apply(action)
        except BackendUnavailable:
            break
        except UnknownSubject as error:
            result = ActionResult(action.id, ActionStatus.REFUSED, str(error))
        if start and result.status is ActionStatus.REFUSED and action.offer_id is not None:
            empty[action.offer_id] = result.detail
        results.append(result)
    return tuple(results)
