"""What a line of forecasts has learned, as JSON and back: parameters are stored, never pickles.

A restarted controller forecasts at once from what is stored and fits nothing before it is due. Arrays are base64 of
little-endian float64 with their shape, exact to the bit. A document of another schema or a damaged one is refused with
`ParametersError`; the line is then fitted anew.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, TypeVar

import numpy as np

from controller.core.forecast.base import Fitted, model_named
from controller.core.forecast.calibrate import Calibration
from controller.core.forecast.events import Effect
from controller.core.forecast.select import Score
from controller.core.forecast.signals import Admission, SignalUse
from controller.core.forecast.standing import Standing
from controller.core.types import FloatArray

SCHEMA: Final = 2
_LARGEST: Final = 10_000_000
_DEEPEST: Final = 3

T = TypeVar("T")
Json = dict[str, Any]


class ParametersError(ValueError):
    """A stored document that can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """One line, a series on a grid: who leads with what parameters, who is followed beside, and the evidence on each.

    `plain` is the leader fitted without signals, for when one of them fails; `beside` are the rivals' fits. `load` is
    the mean load that the scores were judged on and `history_s` the length of history used. Times are epoch seconds.
    """

    fitted: Fitted
    standing: Standing
    plain: Fitted | None = None
    beside: tuple[Fitted, ...] = ()
    scores: tuple[Score, ...] = ()
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    effects: Mapping[str, Effect] = field(default_factory=dict)
    admissions: tuple[Admission, ...] = ()
    note: str = ""
    load: float = float("nan")
    history_s: float = float("nan")
    selected_s: float = float("nan")

    def fit_of(self, model: str) -> Fitted | None:
        """The fit of the leader or of one beside it; None: it isn't followed."""
        return next((fitted for fitted in (self.fitted, *self.beside) if fitted.model == model), None)


def to_json(parameters: Parameters) -> Json:
    """The parameters as JSON values; unknown numbers are null."""
    standing = parameters.standing
    return {
        "schema": SCHEMA,
        "fitted": fitted_to_json(parameters.fitted),
        "plain": None if parameters.plain is None else fitted_to_json(parameters.plain),
        "beside": [fitted_to_json(fitted) for fitted in parameters.beside],
        "scores": [_plain(asdict(score)) for score in parameters.scores],
        "calibrations": {model: each.to_json() for model, each in parameters.calibrations.items()},
        "effects": {kind: _plain(asdict(effect)) for kind, effect in parameters.effects.items()},
        "admissions": [_plain(asdict(admission)) for admission in parameters.admissions],
        "standing": {
            "leader": standing.leader,
            "serving": standing.serving,
            "changed_s": standing.changed_s,
            "hours": {
                str(hour): {model: _packed(tally) for model, tally in tallies.items()}
                for hour, tallies in standing.hours.items()
            },
        },
        "note": parameters.note,
        "load": _number(parameters.load),
        "history_s": _number(parameters.history_s),
        "selected_s": _number(parameters.selected_s),
    }


def from_json(document: object) -> Parameters:
    """The parameters of a document of `to_json`. Raises ParametersError for anything else."""
    try:
        return _read(document)
    except ParametersError:
        raise
    except Exception as error:  # whatever is wrong with what lies in a table, it is refused and not a crash
        raise ParametersError(f"the stored parameters are damaged ({type(error).__name__}: {error})") from error


def _read(document: object) -> Parameters:
    if not isinstance(document, Mapping):
        raise ParametersError("the stored parameters are no JSON object")
    if document.get("schema") != SCHEMA:
        raise ParametersError(
            f"the stored parameters have schema {document.get('schema')!r}, this version reads {SCHEMA}"
        )
    standing = document["standing"]
    tallies = {
        int(hour): {str(model): _unpacked(tally) for model, tally in of.items()}
        for hour, of in standing["hours"].items()
    }
    changed_s = standing["changed_s"]
    parameters = Parameters(
        fitted=fitted_from_json(document["fitted"]),
        standing=Standing(
            str(standing["leader"]), str(standing["serving"]), None if changed_s is None else float(changed_s), tallies
        ),
        plain=None if document["plain"] is None else fitted_from_json(document["plain"]),
        beside=tuple(fitted_from_json(each) for each in document["beside"]),
        scores=tuple(_made(Score, each) for each in document["scores"]),
        calibrations={str(model): Calibration.from_json(each) for model, each in document["calibrations"].items()},
        effects={str(kind): _effect(each) for kind, each in document["effects"].items()},
        admissions=tuple(_admission(each) for each in document["admissions"]),
        note=str(document["note"]),
        load=_float(document["load"]),
        history_s=_float(document["history_s"]),
        selected_s=_float(document["selected_s"]),
    )
    if parameters.standing.leader != parameters.fitted.model:
        raise ParametersError("the stored standing is of another leader than the stored fit")
    return parameters


def fitted_to_json(fitted: Fitted) -> Json:
    """A model's parameters as JSON values."""
    return {
        "model": fitted.model,
        "step_s": fitted.step_s,
        "steps": fitted.steps,
        "fitted_s": fitted.fitted_s,
        "spread": _packed(fitted.spread),
        "arrays": {name: _packed(array) for name, array in fitted.arrays.items()},
        "numbers": {name: _number(value) for name, value in fitted.numbers.items()},
        "note": fitted.note,
        "members": [fitted_to_json(member) for member in fitted.members],
        "uses": [asdict(use) for use in fitted.uses],
    }


def fitted_from_json(document: Mapping[str, Any], depth: int = 0) -> Fitted:
    """Parameters of a document of `fitted_to_json`. KeyError for a model that isn't there any more, ParametersError or
    another error for a document that is damaged."""
    if depth > _DEEPEST:
        raise ParametersError("models are nested too deep")
    model_named(document["model"])
    return Fitted(
        model=str(document["model"]),
        step_s=float(document["step_s"]),
        steps=int(document["steps"]),
        fitted_s=float(document["fitted_s"]),
        spread=_unpacked(document["spread"]),
        arrays={str(name): _unpacked(array) for name, array in document["arrays"].items()},
        numbers={str(name): _float(value) for name, value in document["numbers"].items()},
        note=str(document["note"]),
        members=tuple(fitted_from_json(member, depth + 1) for member in document["members"]),
        uses=tuple(SignalUse(**use) for use in document["uses"]),
    )


def _packed(array: FloatArray) -> Json:
    values = np.ascontiguousarray(array, dtype="<f8")
    return {"shape": list(values.shape), "float64": base64.b64encode(values.tobytes()).decode("ascii")}


def _unpacked(document: Mapping[str, Any]) -> FloatArray:
    shape = tuple(int(length) for length in document["shape"])
    if min(shape, default=0) < 0 or math.prod(shape) > _LARGEST:
        raise ParametersError(f"an array of shape {shape} is stored")
    try:
        raw = base64.b64decode(document["float64"], validate=True)
    except binascii.Error as error:
        raise ParametersError(f"a stored array can't be read: {error}") from error
    if len(raw) != 8 * math.prod(shape):
        raise ParametersError(f"a stored array has {len(raw)} bytes, its shape {shape} needs {8 * math.prod(shape)}")
    return np.frombuffer(raw, dtype="<f8").reshape(shape).astype(np.float64)


def _number(value: float | None) -> float | str | None:
    """NaN is null; the infinities have no JSON number and are words."""
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def _float(value: float | str | None) -> float:
    return float("nan") if value is None else float(value)


def _plain(values: Mapping[str, Any]) -> Json:
    out: Json = {}
    for name, value in values.items():
        if isinstance(value, float):
            out[name] = _number(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            out[name] = list(value)
        else:
            out[name] = value
    return out


def _made(kind: Callable[..., T], document: Mapping[str, Any]) -> T:
    """A flat value class from its stored fields; what this version doesn't know of is left out."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in document.items() if name in known})


def _effect(document: Mapping[str, Any]) -> Effect:
    factors, observed = (tuple(float(value) for value in document[name]) for name in ("factors", "observed"))
    return Effect(str(document["kind"]), factors, observed)


def _admission(document: Mapping[str, Any]) -> Admission:
    unknown = {name: _float(document[name]) for name in ("pinball_without", "pinball_with", "gain")}
    return _made(Admission, {**document, **unknown})
