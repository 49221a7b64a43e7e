"""How a draft would do over the next day, by the controller's own core. Computed once for a prospect and a draft."""

import json
from typing import Any

import streamlit as st
from sqlmodel import select

from controller.core import frontier as core_frontier
from controller.core.envelope import EnvelopeError, parse_envelope
from controller.core.feasibility import FEASIBLE_FROM, Change, Feasibility, changes, judge, stage_of
from controller.core.frontier import Frontier
from controller.core.prospect import Prospect, unpacked
from controller.core.rehearsal import Rehearsals
from controller.core.types import Envelope
from dashboard.queries.read import first, lasting
from dashboard.queries.standing import read_standing
from models.prospects import ProspectRow

Document = dict[str, Any]


@lasting
def read_prospect() -> Prospect | None:
    """What drafts are judged by, as the controller last recorded it; None before the first time."""
    row = first(select(ProspectRow).where(ProspectRow.service == read_standing().service))
    return None if row is None else unpacked(row.document, row.minutes)


def why_nothing(prospect: Prospect | None) -> str:
    """Why no draft can be judged now, as a sentence's end; empty: drafts can be judged."""
    if prospect is None:
        return "the controller has not looked a day ahead yet"
    if prospect.stale(read_standing().now.timestamp()):
        return "the last look ahead is more than three hours old"
    return prospect.why_nothing()


@st.cache_resource(max_entries=4, show_spinner=False)
def _stage(key: tuple[str, float], _prospect: Prospect) -> Rehearsals | None:
    return stage_of(_prospect)


@st.cache_data(max_entries=64, show_spinner=False)
def _verdict(key: tuple[str, float], draft: str, _prospect: Prospect, _envelope: Envelope) -> Feasibility:
    return judge(_prospect, _envelope, _stage(key, _prospect))


@st.cache_data(max_entries=64, show_spinner=False)
def _changes(key: tuple[str, float], draft: str, _prospect: Prospect, _envelope: Envelope) -> tuple[Change, ...]:
    return changes(_prospect, _envelope, _stage(key, _prospect))


@st.cache_data(max_entries=32, show_spinner=False)
def _frontier(key: tuple[str, float], draft: str, _prospect: Prospect, _envelope: Envelope) -> Frontier | None:
    stage = _stage(key, _prospect)
    return None if stage is None else core_frontier.frontier(stage, _envelope)


def _asked(document: Document) -> tuple[Prospect, Envelope] | None:
    prospect = read_prospect()
    if prospect is None or why_nothing(prospect):
        return None
    try:
        return prospect, parse_envelope(document, prospect.service)
    except EnvelopeError:
        return None


def _key(prospect: Prospect) -> tuple[str, float]:
    return prospect.service, prospect.now_s


def read_verdict(document: Document) -> Feasibility | None:
    """The verdict on a draft; None where the draft can't be read or nothing can be judged now (`why_nothing`)."""
    asked = _asked(document)
    return None if asked is None else _verdict(_key(asked[0]), json.dumps(document), *asked)


def read_changes(document: Document) -> tuple[Change, ...]:
    """Single changes that make the draft feasible, the smallest first; none where it is feasible or unknown."""
    asked, verdict = _asked(document), read_verdict(document)
    if asked is None or verdict is None or verdict.probability is None or verdict.probability >= FEASIBLE_FROM:
        return ()
    return _changes(_key(asked[0]), json.dumps(document), *asked)


def read_frontier(document: Document) -> Frontier | None:
    """The frontier through the draft; None where it is not known. It is the same for every cap of the draft."""
    asked = _asked(document)
    if asked is None:
        return None
    # What does not bend the line is left out of the key, so that moving the cap draws nothing anew.
    without = {name: value for name, value in document.items() if name not in ("spend_cap_usd_per_hour", "degrade")}
    return _frontier(_key(asked[0]), json.dumps(without), *asked)
