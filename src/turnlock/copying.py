"""Sessions from one store into another: files into a database, and back.

A session is copied under both its locks, line by line as it is stored, from the first byte on.
Nobody watches over these leases: the copying asks for them itself as it goes on, and ends when one
was taken from it. What
the other store has of it already has to be how it begins; then what is missing is added. So a copy
that was cut short is gone on with, a second one adds what is new, and one that met another session
of the same name touches nothing. What a full disk or a death in mid-write left of a line is passed
over: it is a damaged line there, that begins as the one behind it.

An entry arrives byte for byte. What is no entry does as well where it can be stored: a database
keeps text, so a damaged line that is none stays behind, and is counted. A fragment at a
transcript's end was never acknowledged, and stays behind too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from .backends import (
    Backend,
    BackendLease,
    Holder,
    Lost,
    NoSession,
    TailMoved,
    TakeRequest,
    give_back,
)
from .errors import SessionBusy
from .session import SessionKey
from .transcript.jsonl import Line
from .transcript.tail import Tail

# Lines of so many bytes go in one append.
_BATCH_BYTES = 1024 * 1024
_MAX_HOLD = 3600.0


class Result(Enum):
    """What became of a session."""

    COPIED = "copied"
    SAME = "same"  # all of it was there
    DIFFERS = "differs"  # another session of that name is there; it was left alone
    BUSY = "busy"  # somebody holds or writes it, here or there
    UNFINISHED = "unfinished"  # its last turn has no terminal entry yet: doctor --fix, or a turn
    MISSING = "missing"  # there is none to copy


class Copied(NamedTuple):
    """``lines`` were added; ``left_out`` are damaged ones that cannot be stored there."""

    session: str
    result: Result
    lines: int = 0
    left_out: int = 0


def copy_session(source: Backend[Any], target: Backend[Any], session: SessionKey) -> Copied:
    """Copy one session. Raises `StoreError` and the like; then what was added so far stays."""
    try:
        with HeldSession(source, session, make=False) as held:
            if held.owes:
                return Copied(str(session), Result.UNFINISHED)
            with HeldSession(target, session, make=True) as theirs:
                return copy_held(source, target, session, held, theirs)
    except NoSession:
        return Copied(str(session), Result.MISSING)
    except (SessionBusy, Lost, TailMoved):
        return Copied(str(session), Result.BUSY)


class HeldSession:
    """A session that nobody else holds meanwhile. Raises `SessionBusy` at once.

    ``make``: see `TakeRequest`.
    """

    lease: BackendLease

    def __init__(self, backend: Backend[Any], session: SessionKey, *, make: bool) -> None:
        self._backend = backend
        self._session = session
        self._request = TakeRequest(None, _MAX_HOLD, header=False, make=make)

    @property
    def owes(self) -> bool:
        """Whether a turn of it has no terminal entry yet."""
        return bool(self.lease.owed or self.lease.tail.owes)

    def keep(self) -> None:
        """Ask for the lease, which may run out. Raises `Lost` when it was taken."""
        if self._backend.renew([self.lease]):
            raise Lost

    def __enter__(self) -> HeldSession:
        found = self._backend.take(self._session, self._request)
        if isinstance(found, Holder):
            found.close()
            raise SessionBusy(str(self._session), holder_turn=found.turn_id)
        self.lease = found
        return self

    def __exit__(self, *exc: object) -> None:
        # Lines were appended without a word of what they mean: nobody may keep this as the end.
        self.lease.tail = self.lease.tail._replace(size=-1)
        give_back(self._backend, self.lease)


def copy_held(
    source: Backend[Any],
    target: Backend[Any],
    session: SessionKey,
    ours: HeldSession,
    theirs: HeldSession,
) -> Copied:
    """Of one that is held in both places."""

    def keep() -> None:
        ours.keep()
        theirs.keep()

    lines = _kept(source.read(session), keep)
    chosen = _Chosen(lines, text_only=target.is_text_only)
    wanted = next(chosen, None)
    for line in target.read(session):
        if line.raw == wanted:
            wanted = next(chosen, None)
        elif wanted is None or not (line.is_damaged and wanted.startswith(line.raw)):
            return Copied(str(session), Result.DIFFERS)
    added = 0
    missing = chosen if wanted is None else chain([wanted], chosen)
    for batch in _batches(missing):
        target.append(theirs.lease, batch, Tail())
        added += len(batch)
    result = Result.COPIED if added else Result.SAME
    return Copied(str(session), result, added, chosen.left_out)


def _kept(lines: Iterator[Line], keep: Callable[[], None]) -> Iterator[Line]:
    """The lines; between those that make up a batch the leases are asked for."""
    size = 0
    for line in lines:
        yield line
        size += line.size
        if size >= _BATCH_BYTES:
            keep()
            size = 0


class _Chosen(Iterator[bytes]):
    """The lines that can be stored; counts the others."""

    def __init__(self, lines: Iterator[Line], *, text_only: bool) -> None:
        self._lines = lines
        self._text_only = text_only
        self.left_out = 0

    def __next__(self) -> bytes:
        while not self._is_storable(line := next(self._lines)):
            self.left_out += 1
        return line.raw

    def _is_storable(self, line: Line) -> bool:
        # Of a line that is too long only the first bytes are at hand.
        if line.entry is None and len(line.raw) != line.size:
            return False
        return not self._text_only or line.entry is not None or is_text(line.raw)


def is_text(raw: bytes) -> bool:
    """Whether a database can store these bytes as text."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in raw


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line + b"\n")
        size += len(line) + 1
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
