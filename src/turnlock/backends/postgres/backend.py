"""The PostgreSQL backend: the promises of `Backend`, kept by single statements."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

from ...clock import Clock, SystemClock
from ...errors import StoreError, TranscriptError
from ...session import SessionKey, parse_key
from ...transcript.entries import header
from ...transcript.jsonl import decode, encode
from ...transcript.tail import Tail, read_tail
from .. import (
    OVER_LIMIT_GRACE,
    STALE_AFTER,
    Holder,
    LockRecord,
    Lost,
    NoSession,
    Superseded,
    TailMoved,
    TakeRequest,
    Wake,
    Whose,
    give_back,
)
from .database import Database, OutcomeUnknown, Row
from .lease import LeaseTime, PostgresLease, opening_id
from .looking import PREFIX, Looking
from .rows import Rows
from .url import place
from .waiting import LAST, PATIENCE, Line, Place, Token

# How long a lease lasts without a renewal: the time after which a gateway that died is reclaimed.
LEASE_TIME = 10.0
_DURABILITIES = ("fsync", "none")
# Ends of transcripts that are kept, so that the next take need not read them.
_ENDS_MAX = 1024
# Only a session that is made and removed again and again asks for more.
_TAKE_ATTEMPTS_MAX = 10
_ID_MAX = 200
# Leases that one message asks for.
_RENEWED_MAX = 500


class PostgresBackend(Looking):
    """What ``open_store("postgresql://…")`` opens. Any number of hosts may open the same database.

    ``lease_time``: seconds after which a lease that nobody renews is another's to take; more than
    the longest pause that a gateway should survive. ``durability``: ``fsync``, or ``none``: what is
    acknowledged in the last second may be lost when the server's host fails, or only its processes
    are killed, and with it a take, a revocation or a release. Connects at the first call.
    """

    leases_expire = True
    is_text_only = True

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        lease_time: float = LEASE_TIME,
        durability: str = "fsync",
        database: Database | None = None,
    ) -> None:
        if durability not in _DURABILITIES:
            raise ValueError(f"durability is {durability!r}; it is one of {_DURABILITIES}")
        self._clock = clock or SystemClock()
        super().__init__(database or Database(url, durable=durability == "fsync"))
        self.location = self._database.location
        self._place = place(url)
        self._gateway = uuid.uuid4().hex
        self._lease_time = LeaseTime(lease_time)
        self._line = Line(self._database, self._clock, self._gateway)
        self._ends: dict[int, Tail] = {}

    def identity(self, session: SessionKey) -> Hashable:
        return self._place, session

    def close(self) -> None:
        self._line.listener.close()
        self._database.close()

    # Taking

    def take(
        self, session: SessionKey, request: TakeRequest, *, standing: Place | None = None
    ) -> PostgresLease | Holder:
        self._check()
        for _ in range(_TAKE_ATTEMPTS_MAX):
            started = self._clock.monotonic()
            claimed, found = self._take_once(session, request, standing)
            if claimed:
                if standing is not None:
                    standing.took = True
                return self._begun(session, request, claimed[0], started)
            if found:
                return _holder(found[0])
            if not request.make:
                raise NoSession
            started = self._clock.monotonic()
            made = self._make(session, request)
            if made:
                return self._begun(session, request, made[0], started)
        raise StoreError(self.location, "take", f"{session} came and went all the time")

    def _take_once(
        self, session: SessionKey, request: TakeRequest, standing: Place | None
    ) -> list[list[Row]]:
        return self._database.run_each(
            "take",
            "take",
            "holder",
            **self._claim(session, request),
            ticket=LAST if standing is None else standing.ticket,
            grace=OVER_LIMIT_GRACE,
            patience=PATIENCE,
        )

    def _make(self, session: SessionKey, request: TakeRequest) -> list[Row]:
        first = self._header() if request.header else b""
        return self._database.run(
            "take",
            "create",
            **self._claim(session, request),
            bytes=len(first),
            header=first.decode().rstrip("\n"),
            header_id=_id_of(first),
        )

    def _header(self) -> bytes:
        return encode(header(str(uuid.uuid4()), cwd=PREFIX, wall=self._clock.wall()))

    def _claim(self, session: SessionKey, request: TakeRequest) -> dict[str, Any]:
        """What a claim says of its holder."""
        return {
            "agent": session.agent,
            "name": session.name,
            "turn_id": request.turn_id,
            "max_hold": request.max_hold,
            "gateway": self._gateway,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "lease_time": self._lease_time.seconds,
        }

    def _begun(
        self, session: SessionKey, request: TakeRequest, row: Row, started: float
    ) -> PostgresLease:
        """A lease on the row, with the transcript's end."""
        lease = PostgresLease(
            session,
            row.id,
            row.epoch,
            self._gateway,
            tuple(map(_superseded, row.owed)),
            request.max_hold,
        )
        self._lease_time.extend(lease, started)
        try:
            lease.tail = self._end(lease, row.size)
            if row.size == 0 and request.header:
                self.append(lease, [self._header()], Tail())
        except BaseException:
            # Also what a signal's handler raises: the row would hold until the lease runs out.
            give_back(self, lease)
            raise
        return lease

    def _end(self, lease: PostgresLease, size: int) -> Tail:
        known = self._ends.get(lease.session_id)
        # Nothing is ever changed or taken away, so a transcript of that size is that transcript.
        if known is not None and known.size == size and not lease.owed:
            return known
        rows = Rows(self._database, lease.session)
        return read_tail(rows, size, turns=1 + len(lease.owed))

    # Superseding

    def supersede(
        self,
        session: SessionKey,
        request: TakeRequest,
        *,
        lease: PostgresLease | None,
        reason: str,
        turn_id: str | Whose | None = Whose.ANYONES,
    ) -> PostgresLease | None:
        self._check()
        if lease is not None:
            lease.over()
        whoever = isinstance(turn_id, Whose)
        return self._supersede(
            session,
            request,
            session_id=None if lease is None else lease.session_id,
            epoch=None if lease is None else lease.epoch,
            from_gateway=None if lease is None else lease.gateway,
            reason=reason,
            whoever=whoever,
            from_turn=None if whoever else turn_id,
            only_expired=False,
        )

    def reclaim(
        self, record: LockRecord, request: TakeRequest, *, stale_after: float = STALE_AFTER
    ) -> PostgresLease | None:
        self._check()
        return self._supersede(
            parse_key(record.session),
            request,
            session_id=None,
            epoch=None,
            from_gateway=None,
            reason="interrupted",
            whoever=True,
            from_turn=None,
            only_expired=True,
        )

    def _supersede(
        self, session: SessionKey, request: TakeRequest, **conditions: Any
    ) -> PostgresLease | None:
        started = self._clock.monotonic()
        rows = self._database.run(
            "supersede", "supersede", "tell_holder", **self._claim(session, request), **conditions
        )
        return self._begun(session, request, rows[0], started) if rows else None

    # The lease at work

    def holds(self, lease: PostgresLease) -> bool:
        if lease.released:
            return False
        found = self._standing(lease)
        if found and found[0].has_it:
            return True
        lease.lost()
        return False

    def renew(self, leases: Sequence[PostgresLease]) -> list[PostgresLease]:
        """Ask for those whose time it is, many in one message, and hear of all."""
        started = self._clock.monotonic()
        lost = [lease for lease in leases if lease.released]
        due = [lease for lease in leases if not lease.released and self._is_due(lease, started)]
        for begin in range(0, len(due), _RENEWED_MAX):
            lost += self._renew(due[begin : begin + _RENEWED_MAX])
        return lost

    def _is_due(self, lease: PostgresLease, now: float) -> bool:
        if lease.unwatch is None:
            # For a lease that lasts: it is asked for the first time after a second or so.
            lease.watched(self._line.listener.watch(lease.session_id, lease.doubt))
        return lease.doubted or now >= lease.renew_at

    def _renew(self, leases: list[PostgresLease]) -> list[PostgresLease]:
        started = self._clock.monotonic()
        for lease in leases:
            lease.doubted = False
        rows = self._database.run(
            "renew",
            "renew",
            again=True,
            within=self._lease_time.patience,
            session_ids=[lease.session_id for lease in leases],
            epochs=[lease.epoch for lease in leases],
            gateway=self._gateway,
            lease_time=self._lease_time.seconds,
        )
        # Of one session two leases may be asked for: one that was superseded, and its successor.
        standing = {(row.id, row.epoch): row for row in rows}
        lost = []
        for lease in leases:
            row = standing[lease.session_id, lease.epoch]
            if row.renewed:
                self._lease_time.extend(lease, started)
            elif not row.has_it:
                lease.lost()
                lost.append(lease)
        return lost

    def append(self, lease: PostgresLease, lines: Sequence[bytes], after: Tail) -> None:
        with lease.mutex:
            if lease.released:
                raise Lost
            started = self._clock.monotonic()
            if not self._write(lease, lines):
                self._refuse(lease, lines)
            self._lease_time.extend(lease, started)
            size = lease.tail.size + sum(map(len, lines))
            lease.tail = after._replace(size=size, fragment=None)

    def _write(self, lease: PostgresLease, lines: Sequence[bytes]) -> bool:
        """Whether the fence and the transcript's end were as the lease knows them.

        When the answer is lost it is sent again: if it was done the first time, the transcript
        ends elsewhere by now, and the second time does nothing.
        """
        offsets = [lease.tail.size]
        for line in lines[:-1]:
            offsets.append(offsets[-1] + len(line))
        try:
            return bool(
                self._database.run(
                    "append",
                    "append",
                    again=True,
                    bulk=sum(map(len, lines)),
                    session_id=lease.session_id,
                    epoch=lease.epoch,
                    gateway=lease.gateway,
                    size=lease.tail.size,
                    bytes=sum(map(len, lines)),
                    lines=b"".join(lines).decode().removesuffix("\n"),
                    ids=[_id_of(line) for line in lines],
                    offsets=offsets,
                    lease_time=self._lease_time.seconds,
                )
            )
        except OutcomeUnknown:
            # The next append looks first.
            lease.tail = lease.tail._replace(size=-1)
            raise

    def _refuse(self, lease: PostgresLease, lines: Sequence[bytes]) -> None:
        """Say why nothing was written; returns if it was, by a message whose answer was lost."""
        found = self._standing(lease)
        if found and _is_there(found[0], lines, lease.tail.size):
            return
        if not (found and found[0].has_it):
            lease.lost()
            raise Lost
        size = found[0].size
        rows = Rows(self._database, lease.session)
        lease.tail = read_tail(rows, size, turns=1 + len(lease.owed))
        raise TailMoved

    def _standing(self, lease: PostgresLease) -> list[Row]:
        return self._database.run(
            "look",
            "standing",
            again=True,
            session_id=lease.session_id,
            epoch=lease.epoch,
            gateway=lease.gateway,
            size=lease.tail.size,
        )

    def known_ids(self, lease: PostgresLease, ids: Collection[str]) -> set[str]:
        rows = self._database.run(
            "read", "known_ids", again=True, session_id=lease.session_id, ids=list(ids)
        )
        return {row.id for row in rows}

    def header_id(self, lease: PostgresLease) -> str | None:
        rows = self._database.run("read", "header_id", again=True, session_id=lease.session_id)
        return rows[0].id if rows else None

    def remove(self, lease: PostgresLease, size: int) -> None:
        with lease.mutex:
            if lease.released:
                raise Lost
            gone = self._database.run(
                "remove",
                "remove",
                bulk=size,
                session_id=lease.session_id,
                epoch=lease.epoch,
                gateway=lease.gateway,
                size=size,
            )
            if gone:
                return
            found = self._standing(lease)
            if found and found[0].has_it:
                raise TranscriptError(f"{PREFIX}{lease.session}", "it was changed meanwhile")
            lease.lost()
            raise Lost

    # The end of a lease

    def release(self, lease: PostgresLease) -> bool:
        with lease.mutex:
            if lease.released:
                return True
            # Also when it fails: the lease is renewed no more, and another's when it has run out.
            lease.released = True
            lease.over()
            try:
                freed = self._end_claim("release", lease)
            except OutcomeUnknown:
                freed = self._end_claim("release", lease) or self._is_free_of(lease)
            if freed:
                self._keep_end(lease)
            return bool(freed)

    def leave_owing(self, lease: PostgresLease) -> None:
        with lease.mutex:
            lease.released = True
            lease.over()
            self._end_claim("leave_owing", lease, again=True)

    def _end_claim(self, way: str, lease: PostgresLease, *, again: bool = False) -> list[Row]:
        return self._database.run(
            "release",
            way,
            "tell",
            again=again,
            session_id=lease.session_id,
            epoch=lease.epoch,
            gateway=lease.gateway,
        )

    def _is_free_of(self, lease: PostgresLease) -> list[Row]:
        """The session's row, if nobody has taken it since the lease gave it back."""
        found = self._standing(lease)
        return [row for row in found if row.epoch == lease.epoch and not row.held]

    def _keep_end(self, lease: PostgresLease) -> None:
        # Single operations, which need no lock.
        if len(self._ends) >= _ENDS_MAX:
            self._ends.clear()
        self._ends[lease.session_id] = lease.tail

    def abandon(self, lease: PostgresLease) -> None:
        lease.released = True

    # Waiting

    def line_up(self, session: SessionKey) -> Place:
        return self._line.join(session)

    def wait(
        self, session: SessionKey, holder: Holder, standing: Place, timeout: float, wake: Wake
    ) -> None:
        self._line.wait(standing, holder.token.session_id, timeout, wake)

    def in_line(self, sessions: Iterable[SessionKey]) -> dict[SessionKey, int]:
        asked = list(sessions)
        return self._line.counted(asked) if asked else {}


def _holder(row: Row) -> Holder:
    """Nobody is named when the session is free and somebody stands in front."""
    token = Token(row.id)
    if not row.held:
        return Holder(None, None, None, None, token)
    return Holder(row.pid, row.turn_id, row.age, row.max_hold, token)


def _superseded(said: dict[str, Any]) -> Superseded:
    # A version before this one did not say by which take.
    opening = opening_id(said["gateway"], said["epoch"]) if "epoch" in said else None
    return Superseded(said["turnId"], said["pid"], said["reason"], said["held"], opening)


def _is_there(row: Row, lines: Sequence[bytes], after: int) -> bool:
    """Whether the lines are what was written behind so many bytes. A write is there as a whole."""
    if row.line is None or row.size < after + sum(map(len, lines)):
        return False
    return bool(row.line.encode() + b"\n" == lines[0])


def _id_of(line: bytes) -> str | None:
    """The id to find an entry by; None for one that no index could have."""
    entry = decode(line)
    identity = entry.get("id") if entry is not None else None
    # Ours are short and plain; those of other programs may be anything that JSON can say.
    is_plain = isinstance(identity, str) and len(identity) <= _ID_MAX and identity.isprintable()
    return identity if is_plain else None
