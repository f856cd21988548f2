"""Step persistence in a session: ``pip install 'turnlock[pydantic-ai-harness]'``.

::

    steps = TurnlockStepStore(store, "main/alice")
    agent = Agent(
        "openai:gpt-5",
        capabilities=[TurnlockSession(store, "main/alice"), StepPersistence(store=steps)],
    )

What `pydantic_ai_harness.step_persistence` records of a run (its steps, snapshots to continue from,
and what became of each tool call) goes into the transcript of the run's session, in the run's turn.
So it is fenced as the turn is: a run that has lost its session records nothing more, and what a
process that died has left is whole up to its last step.

A record is an entry ``pydantic-ai:step``, which is nothing to a model. Snapshots name their
messages, and each message is there once, however many snapshots have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

try:
    from pydantic_ai_harness.step_persistence import (
        ContinuableSnapshot,
        RunRecord,
        StepEvent,
        ToolEffectRecord,
    )
except ImportError as missing:
    raise ImportError(
        "pydantic-ai-harness is not installed: pip install 'turnlock[pydantic-ai-harness]'",
        name="pydantic_ai_harness",
    ) from missing

from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessagesTypeAdapter

from ..errors import TranscriptError, TurnlockError
from ..session import parse_key
from ..store import Store
from ..transcript.entries import Entry, custom_type
from ..turns.aio import AsyncTurn, on_worker
from .pydantic_ai.keeping import turn_around
from .pydantic_ai.messages import STAMP

R = TypeVar("R", StepEvent, ContinuableSnapshot, RunRecord, ToolEffectRecord)

STEP = "pydantic-ai:step"
MESSAGE = "pydantic-ai:step-message"
_KINDS: dict[type[Any], str] = {
    RunRecord: "run",
    StepEvent: "event",
    ContinuableSnapshot: "snapshot",
    ToolEffectRecord: "tool-effect",
}
_FORMS: dict[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _KINDS}


class NotInTurn(TurnlockError):
    """A step was to be recorded outside of any turn on its session. Attribute: ``session``."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.hint = "give the agent a TurnlockSession on it, or open store.turn() around the run"
        super().__init__(f"steps of session {session!r} are recorded in its turns; {self.hint}")


class TurnlockStepStore:
    """A ``StepStore`` of pydantic-ai-harness, in one session of ``store``.

    Records are written in the current turn, which has to be one on this session, and are durable
    when a method returns. A step or snapshot whose ``idempotency_key`` its run has recorded already
    is not recorded again. Reading needs no turn, and reads the transcript.

    Nothing is ever removed: a transcript has no limit like ``max_snapshots_per_run``.

    Writing raises `NotInTurn`, `LeaseRevoked` once the turn has lost its session, `StoreError` and
    `TranscriptError`; reading a snapshot whose messages are damaged `TranscriptError`; making a
    store `InvalidSessionKey`.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = str(parse_key(key))
        # What this process has begun, so that the end of a tool call need not look for it.
        self._begun: dict[tuple[str, str], ToolEffectRecord] = {}

    async def register_run(self, record: RunRecord) -> None:
        await self._write(record)

    async def get_run(self, *, run_id: str) -> RunRecord | None:
        return next((run for run in reversed(await self._runs()) if run.run_id == run_id), None)

    async def list_runs(
        self, *, parent_run_id: str | None = None, conversation_id: str | None = None
    ) -> list[RunRecord]:
        latest = {run.run_id: run for run in await self._runs()}
        found = [
            run
            for run in latest.values()
            if parent_run_id in (None, run.parent_run_id)
            and conversation_id in (None, run.conversation_id)
        ]
        return sorted(found, key=lambda run: run.started_at)

    async def append_event(self, event: StepEvent) -> None:
        await self._write(event, key=event.idempotency_key)

    async def list_events(self, *, run_id: str) -> list[StepEvent]:
        return _records(StepEvent, await self._entries(), run_id)

    async def save_snapshot(self, snapshot: ContinuableSnapshot) -> None:
        said = ModelMessagesTypeAdapter.dump_python(snapshot.messages, mode="json")
        messages = [_message_entry(message) for message in said]
        bare = replace(snapshot, messages=[])
        data = _FORMS[ContinuableSnapshot].dump_python(bare, mode="json")
        data["messages"] = [entry["id"] for entry in messages]
        step = _step("snapshot", data, snapshot.run_id, snapshot.idempotency_key)
        await self._turn().append(*messages, step)

    async def latest_snapshot(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> ContinuableSnapshot | None:
        snapshots = await self.list_snapshots(
            run_id=run_id, include_interrupted=include_interrupted
        )
        return snapshots[-1] if snapshots else None

    async def list_snapshots(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> list[ContinuableSnapshot]:
        """Those of the run, oldest first. Not of the protocol: its conversation search asks it."""
        entries = await self._entries()
        messages = {
            entry["id"]: entry["data"] for entry in entries if custom_type(entry) == MESSAGE
        }
        kept = _in_sequence(_data("snapshot", entries, run_id))
        found = [self._snapshot(data, messages) for data in kept]
        return [one for one in found if include_interrupted or one.state == "complete"]

    async def record_tool_effect(self, record: ToolEffectRecord) -> None:
        await self._write(record)
        place = (record.run_id, record.tool_call_id)
        self._begun.pop(place, None)
        if record.status == "started":
            self._begun[place] = record

    async def get_tool_effect(self, *, run_id: str, tool_call_id: str) -> ToolEffectRecord | None:
        begun = self._begun.get((run_id, tool_call_id))
        return begun or (await self._effects(run_id)).get(tool_call_id)

    async def list_unresolved_tool_effects(self, *, run_id: str) -> list[ToolEffectRecord]:
        effects = await self._effects(run_id)
        return [effect for effect in effects.values() if effect.status == "started"]

    async def _runs(self) -> list[RunRecord]:
        return _records(RunRecord, await self._entries())

    async def _effects(self, run_id: str) -> dict[str, ToolEffectRecord]:
        effects = _records(ToolEffectRecord, await self._entries(), run_id)
        return {effect.tool_call_id: effect for effect in effects}

    def _snapshot(self, data: Entry, messages: dict[str, Entry]) -> ContinuableSnapshot:
        try:
            named = [messages[identity] for identity in data["messages"]]
        except KeyError as missing:
            why = f"message {missing} of a snapshot is not in it; a line of it may be damaged"
            raise TranscriptError(self._key, why, f"turnlock sessions read {self._key}") from None
        made: ContinuableSnapshot
        made = _FORMS[ContinuableSnapshot].validate_python(data | {"messages": []})
        return replace(made, messages=ModelMessagesTypeAdapter.validate_python(named))

    async def _entries(self) -> list[Entry]:
        def read() -> list[Entry]:
            return [one for one in self._store.read(self._key) if custom_type(one) in _OURS]

        return await on_worker(read)

    async def _write(self, record: Any, *, key: str | None = None) -> None:
        kind = type(record)
        data = _FORMS[kind].dump_python(record, mode="json")
        await self._turn().append(_step(_KINDS[kind], data, record.run_id, key))

    def _turn(self) -> AsyncTurn:
        turn = turn_around(self._store, self._key)
        if turn is None:
            raise NotInTurn(self._key)
        return turn


_OURS = frozenset({STEP, MESSAGE})


def _step(kind: str, data: Entry, run_id: str, key: str | None) -> Entry:
    entry: Entry = {"type": "custom", "customType": STEP, "data": {"kind": kind, "record": data}}
    # The same id twice is one entry.
    return entry if key is None else {"id": _digest("step", [kind, run_id, key])} | entry


def _message_entry(message: Entry) -> Entry:
    """A message of a snapshot under an id that follows from what it says."""
    metadata = {name: one for name, one in (message["metadata"] or {}).items() if name != STAMP}
    message = message | {"metadata": metadata or None}
    identity = _digest("message", message)
    return {"id": identity, "type": "custom", "customType": MESSAGE, "data": message}


def _digest(what: str, value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"{what}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:40]}"


def _data(kind: str, entries: Iterable[Entry], run_id: str | None = None) -> Iterator[Entry]:
    for entry in entries:
        data = entry["data"] if custom_type(entry) == STEP else {}
        if data.get("kind") == kind and run_id in (None, data["record"]["run_id"]):
            yield data["record"]


def _records(kind: type[R], entries: Iterable[Entry], run_id: str | None = None) -> list[R]:
    form = _FORMS[kind]
    return [form.validate_python(data) for data in _data(_KINDS[kind], entries, run_id)]


def _in_sequence(snapshots: Iterable[Entry]) -> Iterator[Entry]:
    """Without those that came after a later one of their run, as a repeated step's may."""
    reached = -1
    for data in snapshots:
        number = (data.get("idempotency_key") or "").partition(":")[0]
        place = int(number) if number.isdecimal() else reached
        if place >= reached:
            reached = place
            yield data
