"""The claim: what the lock file of a session says, and how to read one without trusting it.

Readable by people and by OpenClaw's tools: ``pid``, ``createdAt``, ``starttime`` and ``maxHoldMs``
are theirs (releases 2026.2 to 2026.7), the rest is ours. ``v`` tells whose it is. What comes from
the disk is hostile until it was checked: it is read up to a bound, and a field of the wrong type
or out of range counts as absent.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from ...clock import iso, parse_iso
from .. import Superseded
from .process import Processes

VERSION = 1
CLAIM_BYTES_MAX = 64 * 1024
_PID_MAX = 2**31 - 1
# Whoever supersedes again and again on a full disk must not outgrow the bound of the file, nor who
# supersedes a claim that says much: one beyond it is read by nobody, and its lock is taken.
_OWED_MAX = 32
_OWED_BYTES_MAX = 32 * 1024
_TEXT_MAX = 256
_OPENING = re.compile(r"[0-9a-f]{16}")


class Claim(NamedTuple):
    """A parsed claim. ``version`` is None for a foreign one; ``pid`` None when it is unusable."""

    version: object = None
    pid: int | None = None
    created: float | None = None
    start_time: int | None = None
    max_hold: float | None = None
    turn_id: str | None = None
    session: str | None = None
    host: str | None = None
    boot_id: str | None = None
    pid_namespace: int | None = None
    monotonic: float | None = None
    program: str | None = None
    opening: str | None = None
    owed: tuple[Superseded, ...] = ()

    @property
    def is_ours(self) -> bool:
        return self.version is not None

    @property
    def is_known_version(self) -> bool:
        return self.version == VERSION and not isinstance(self.version, bool)


class Scribe:
    """Writes claims of this process: JSON with 2-space indent and a final newline.

    By hand around what differs from claim to claim, as it is on the path of every take.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._pid = -1
        self._who = ""
        self._where = ""

    def write(
        self,
        *,
        turn_id: str | None,
        session: str,
        max_hold: float | None,
        wall: float,
        monotonic: float,
        owed: Sequence[Superseded],
        opening: str | None = None,
    ) -> bytes:
        if self._pid != os.getpid():
            self._describe_process()
        turn = "null" if turn_id is None else encode_basestring_ascii(turn_id)
        hold_ms = "null" if max_hold is None else round(max_hold * 1000)
        opens = "" if opening is None else f'  "opening": "{opening}",\n'
        owed_turns = _encode_owed(owed) if owed else "[]"
        return (
            f'{{\n  "pid": {self._pid},\n  "createdAt": "{iso(wall)}",\n{self._who}'
            f'  "maxHoldMs": {hold_ms},\n  "v": {VERSION},\n  "turnId": {turn},\n'
            f'{opens}  "session": {encode_basestring_ascii(session)},\n'
            f'  "monotonic": {monotonic!r},\n{self._where}'
            f'  "supersedes": {owed_turns}\n}}\n'
        ).encode()

    def _describe_process(self) -> None:
        processes = self._processes
        pid = os.getpid()
        self._who = _fields({"starttime": processes.look_up(pid).start_time})
        self._where = _fields(
            {
                "host": processes.host,
                "bootId": processes.boot_id,
                "pidNamespace": processes.pid_namespace,
                "program": os.path.basename(sys.argv[0] or sys.executable),
            }
        )
        self._pid = pid


def _fields(fields: Mapping[str, Any]) -> str:
    return "".join(
        f"  {json.dumps(name)}: {json.dumps(value)},\n" for name, value in fields.items()
    )


def parse_claim(raw: bytes) -> Claim | None:
    """The claim in a lock file, or None when the file holds no JSON object."""
    try:
        payload = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(payload, dict):
        return None
    hold_ms = _number(payload.get("maxHoldMs"))
    return Claim(
        version=payload.get("v"),
        pid=_integer(payload.get("pid"), 1, _PID_MAX),
        created=parse_iso(payload.get("createdAt")),
        start_time=_integer(payload.get("starttime"), 0, 2**63),
        max_hold=None if hold_ms is None or hold_ms <= 0 else hold_ms / 1000,
        turn_id=_text(payload.get("turnId")),
        session=_text(payload.get("session")),
        host=_text(payload.get("host")),
        boot_id=_text(payload.get("bootId")),
        pid_namespace=_integer(payload.get("pidNamespace"), 0, 2**63),
        monotonic=_number(payload.get("monotonic")),
        program=_text(payload.get("program")),
        opening=_opening(payload.get("opening")),
        owed=tuple(_owed_in(payload.get("supersedes")))[-_OWED_MAX:],
    )


def _owed_in(listed: object) -> Iterator[Superseded]:
    for turn in listed if isinstance(listed, list) else ():
        if isinstance(turn, dict) and _text(turn.get("turnId")) is not None:
            yield _decode_owed(turn)


def _encode_owed(owed: Sequence[Superseded]) -> str:
    """The last ones, as many as there is room for.

    What names no turn owes nothing (a copy, a lock alone), and must not crowd out what does.
    """
    kept: list[str] = []
    room = _OWED_BYTES_MAX
    named = [turn for turn in owed if _text(turn.turn_id) is not None]
    for turn in reversed(named[-_OWED_MAX:]):
        text = json.dumps(_owed_object(turn))
        room -= len(text) + len(", ")
        if room < 0:
            break
        kept.append(text)
    return f"[{', '.join(reversed(kept))}]"


def _owed_object(turn: Superseded) -> dict[str, Any]:
    return {
        "turnId": turn.turn_id,
        # Of the format; a claim does not know what its turn found in the transcript.
        "epoch": None,
        "opening": turn.opening,
        "pid": turn.pid,
        "reason": turn.reason,
        "heldMs": None if turn.held is None else round(turn.held * 1000),
    }


def _decode_owed(turn: dict[str, Any]) -> Superseded:
    held_ms = _number(turn.get("heldMs"))
    return Superseded(
        turn_id=_text(turn.get("turnId")),
        pid=_integer(turn.get("pid"), 1, _PID_MAX),
        reason=_text(turn.get("reason")) or "interrupted",
        held=None if held_ms is None else held_ms / 1000,
        opening=_opening(turn.get("opening")),
    )


def _integer(value: object, least: int, most: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    return None


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _TEXT_MAX else None


def _opening(value: object) -> str | None:
    return value if isinstance(value, str) and _OPENING.fullmatch(value) else None
