"""What a transcript says of an ADK session: who it is of, its state, its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from google.adk.events.event import Event
from google.adk.sessions.state import State

from ...transcript.entries import END, MARKER, OPENING, Entry, custom_type, epoch_of
from .events import Reader

CREATED = "google-adk:session"
DELETED = "google-adk:deleted"
SHARED = "google-adk:state"
OURS = frozenset({CREATED, DELETED, SHARED})


class Who(NamedTuple):
    """An ADK session's name."""

    app: str
    user: str
    session: str


class Deltas(NamedTuple):
    """A change of state by whom it concerns, without prefixes."""

    app: dict[str, Any]
    user: dict[str, Any]
    session: dict[str, Any]


def deltas_of(changes: dict[str, Any]) -> Deltas:
    """Changes of state, apart. What is ``temp:`` is nobody's."""
    made = Deltas({}, {}, {})
    for key, value in changes.items():
        if key.startswith(State.APP_PREFIX):
            made.app[key.removeprefix(State.APP_PREFIX)] = value
        elif key.startswith(State.USER_PREFIX):
            made.user[key.removeprefix(State.USER_PREFIX)] = value
        elif not key.startswith(State.TEMP_PREFIX):
            made.session[key] = value
    return made


class Contents:
    """Read from a transcript's entries. ``who`` is None before ADK has been in the session.

    ``unsettled`` are events of turns that failed: what they changed of the state that sessions
    share may not have come to be. ``epoch`` is the last one in the transcript. ``taken`` are the
    ids of events of a session that had this name, and was deleted.
    """

    def __init__(self, entries: Iterable[Entry], label: str, agent: str = "") -> None:
        self.who: Who | None = None
        self.state: dict[str, Any] = {}
        self.events: list[Event] = []
        self.unsettled: list[Event] = []
        self.taken: set[str] = set()
        self.updated = 0.0
        self.epoch = 0
        self._reader = Reader(label, agent)
        self._of_this_turn: list[Event] = []
        for entry in entries:
            self._take(entry)

    @property
    def exists(self) -> bool:
        """Whether there is a session: made by ADK, or begun by anybody else."""
        return self.who is not None or bool(self.events)

    def _take(self, entry: Entry) -> None:
        self.epoch = max(self.epoch, epoch_of(entry) or 0)
        match custom_type(entry):
            case kind if kind in OURS:
                self._take_ours(entry)
            case kind if kind == OPENING:
                self._of_this_turn = []
            case kind if kind == END:
                self.unsettled = []
            case kind if kind == MARKER:
                self.unsettled += self._of_this_turn
            case _:
                self._take_event(self._reader.event(entry))

    def _take_ours(self, entry: Entry) -> None:
        data = entry["data"]
        if entry["customType"] == DELETED:
            self.taken |= {event.id for event in self.events}
            self.who, self.state, self.events = None, {}, []
        elif entry["customType"] == CREATED:
            self.who = Who(data["appName"], data["userId"], data["id"])
            self.state |= data["state"]
            self.updated = data["timestamp"]
        else:
            self.state |= data["delta"]

    def _take_event(self, event: Event | None) -> None:
        if event is None:
            return
        self.events.append(event)
        self._of_this_turn.append(event)
        self.state |= deltas_of(event.actions.state_delta).session
        self.updated = event.timestamp


def created(who: Who, state: dict[str, Any], timestamp: float) -> Entry:
    data = {"v": 1, "appName": who.app, "userId": who.user, "id": who.session}
    return _custom(CREATED, data | {"state": state, "timestamp": timestamp})


def deleted() -> Entry:
    return _custom(DELETED, {"v": 1})


def shared(delta: dict[str, Any]) -> Entry:
    return _custom(SHARED, {"v": 1, "delta": delta})


def _custom(kind: str, data: Entry) -> Entry:
    return {"type": "custom", "customType": kind, "data": data}
