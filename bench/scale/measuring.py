"""What is measured: costs of each operation, sizes, and rates to check the model with."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from turnlock.backends import TakeRequest
from turnlock.backends.postgres import PostgresBackend
from turnlock.session import SessionKey

from ..at_once import rate_at_once
from ..database import BareTurns, TurnMessages, database, recorded
from .cost import Changed, Cost, Meter

# Leases that one renewal asks for, in the measurement of many.
BATCH = 100
CONNECTIONS = (1, 2, 4, 8)
PARTS = 64
STEPS = ("take", "append", "end", "give_back")
COLD = "a whole turn, the first on its pages after a checkpoint"
RENEWAL = "renewal of one lease"
RENEWALS = f"renewal of {BATCH} leases in one message"
LOOK = "a waiter's look"
# With so many held.
HELD = (BATCH, 2_000)
LOOKS = {held: f"a look for dead leases, {held:,} held" for held in HELD}
END = "the end of a transcript"
PARTITIONED = f"append, entries in {PARTS} parts"
_SESSIONS = 20
# The table of entries in parts, by session; nothing else is changed.
_PARTITIONED = """
    ALTER TABLE turnlock.entry RENAME TO entry_whole;
    CREATE TABLE turnlock.entry (
        session_id bigint NOT NULL, byte_offset bigint NOT NULL, epoch bigint NOT NULL,
        id text COLLATE "C", line text COLLATE "C" NOT NULL,
        PRIMARY KEY (session_id, byte_offset)
    ) PARTITION BY HASH (session_id);
    CREATE INDEX ON turnlock.entry (session_id, id);
"""
_PART = (
    "CREATE TABLE turnlock.entry_{n} PARTITION OF turnlock.entry"
    " FOR VALUES WITH (MODULUS {of}, REMAINDER {n})"
)
_HOLD = """
    INSERT INTO turnlock.session (
        agent, name, modified_at, held, turn_id, pid, taken_at, max_hold, lease_until
    )
    SELECT 'more', 'n' || n, turnlock.clock(), true, 't' || n, 1, turnlock.clock(), 300,
        turnlock.clock() + interval '1 hour'
    FROM generate_series(1, {number}) AS n
"""
_HOLD_NO_MORE = "DELETE FROM turnlock.session WHERE agent = 'more'"
_FILL = """
    INSERT INTO turnlock.session (agent, name, modified_at)
    SELECT 'fill', 'n' || n, turnlock.clock() FROM generate_series({first}, {last}) AS n;
    ANALYZE turnlock.session
"""


class Effort(NamedTuple):
    """How often, and with how many sessions in the tables."""

    operations: int
    rate: int
    sessions: tuple[int, ...]


FULL = Effort(600, 60, (1_000, 100_000, 1_000_000))
QUICK = Effort(60, 10, (1_000, 10_000))


class Measured(NamedTuple):
    """Everything; seconds and bytes. Costs by operation, rates by connections.

    ``client``: processor seconds that a turn costs the client that sends its messages. ``alone``:
    how long a turn takes when nobody else is there. ``flush``: a write of 8 KiB to the disk below.
    """

    costs: dict[str, Cost]
    changed: Changed
    client: float
    alone: float
    flush: float
    rates: dict[str, float]
    processors: int
    take_by_sessions: dict[str, float]
    line_bytes: float
    entry_bytes: float
    session_bytes: float
    connection_bytes: float


def measured(directory: str, effort: Effort, say: Callable[[str], None]) -> Measured:
    with database(directory) as url, metering(url) as meter:
        messages = recorded(url)
        say("the steps of a turn")
        costs = _costs(url, messages, meter, effort.operations)
        changed = _changed(url, messages, meter, effort.operations)
        say("what a gateway asks beside them")
        costs |= _looks(url, meter, effort.operations)
        say("turns at once")
        client, alone, rates = _rates(url, messages, effort.rate)
        line_bytes, entry_bytes = _entry_sizes(meter)
        say("many sessions")
        take_by_sessions = _by_sessions(url, messages, meter, effort)
        session_bytes = _session_bytes(meter)
        say(f"entries in {PARTS} parts")
        meter.execute(_PARTITIONED)
        for number in range(PARTS):
            meter.execute(_PART.format(n=number, of=PARTS))
        costs[PARTITIONED] = _costs(url, messages, meter, effort.operations)["append"]
        return Measured(
            costs=costs,
            changed=changed,
            client=client,
            alone=alone,
            flush=_flush(directory),
            rates=rates,
            processors=os.cpu_count() or 1,
            take_by_sessions=take_by_sessions,
            line_bytes=line_bytes,
            entry_bytes=entry_bytes,
            session_bytes=session_bytes,
            connection_bytes=meter.memory(),
        )


@contextmanager
def metering(url: str) -> Iterator[Meter]:
    meter = Meter(url)
    try:
        yield meter
    finally:
        meter.close()


def _costs(url: str, messages: TurnMessages, meter: Meter, number: int) -> dict[str, Cost]:
    """Of the steps of a turn, and of a whole one where every page is new since a checkpoint."""
    turns = [BareTurns(url, messages) for _ in range(_SESSIONS)]
    steps: dict[str, list[Cost]] = {name: [] for name in STEPS}
    for _ in range(max(1, number // _SESSIONS)):
        # Each step for all sessions in one go: the reading costs something, too.
        for name, costs in steps.items():
            costs.append(meter.cost([getattr(one, name) for one in turns]))
    found = {name: _mean(costs) for name, costs in steps.items()}
    meter.execute("CHECKPOINT")
    found[COLD] = meter.cost([one.once for one in turns])
    for one in turns:
        one.close()
    return found


def _mean(costs: list[Cost]) -> Cost:
    # The first rounds are those of sessions that nobody has touched for long.
    return Cost(*map(statistics.fmean, zip(*costs[len(costs) // 10 :], strict=True)))


def _changed(url: str, messages: TurnMessages, meter: Meter, number: int) -> Changed:
    turns = BareTurns(url, messages)
    try:
        return meter.changed(number, turns.once, turns.connection)
    finally:
        turns.close()


def _looks(url: str, meter: Meter, number: int) -> dict[str, Cost]:
    """What a gateway asks beside its turns' steps."""
    backend = PostgresBackend(url)
    request = TakeRequest("scale", 3600.0)
    leases: list[Any] = [
        backend.take(SessionKey("held", f"s{one}"), request) for one in range(BATCH)
    ]

    def renew(some: list[Any]) -> None:
        for lease in some:
            lease.renew_at = 0.0
        assert backend.renew(some) == []

    standing = backend.line_up(SessionKey("held", "s0"))
    few = max(1, number // 10)
    doings: dict[str, list[Callable[[], object]]] = {
        RENEWAL: [partial(renew, [one]) for one in leases],
        RENEWALS: [partial(renew, leases)] * few,
        LOOK: [partial(backend._line._delay, standing, leases[0].session_id)] * number,
        LOOKS[HELD[0]]: [lambda: list(backend.expired())] * few,
        END: [partial(backend.end, SessionKey("main", "recorded"), turns=1)] * number,
    }
    found = {name: meter.cost(some) for name, some in doings.items()}
    standing.close()
    meter.execute(_HOLD.format(number=HELD[1] - HELD[0]))
    found[LOOKS[HELD[1]]] = meter.cost([lambda: list(backend.expired())] * few)
    meter.execute(_HOLD_NO_MORE)
    for lease in leases:
        backend.release(lease)
    backend.close()
    return found


def _rates(url: str, messages: TurnMessages, number: int) -> tuple[float, float, dict[str, float]]:
    """Processor seconds of the client and seconds of a turn; turns a second by connections."""
    turns = BareTurns(url, messages)
    turns.once()
    took = []
    used = time.process_time()
    for _ in range(number):
        started = time.perf_counter()
        turns.once()
        took.append(time.perf_counter() - started)
    used = (time.process_time() - used) / number
    turns.close()
    make = partial(BareTurns, url, messages)
    rates = {
        str(some): statistics.median(rate_at_once([make] * some, number) for _ in range(3))
        for some in CONNECTIONS
    }
    return used, statistics.median(took), rates


def _entry_sizes(meter: Meter) -> tuple[float, float]:
    """Bytes of a line, and of an entry with all that it needs on the disk."""
    lines = meter.value("SELECT avg(octet_length(line)) FROM turnlock.entry")
    entries = meter.value("SELECT count(*) FROM turnlock.entry")
    return lines, meter.value("SELECT pg_total_relation_size('turnlock.entry')") / entries


def _by_sessions(
    url: str, messages: TurnMessages, meter: Meter, effort: Effort
) -> dict[str, float]:
    """Processor seconds of a take, by how many sessions there are."""
    found = {}
    there = 0
    for wanted in effort.sessions:
        meter.execute(_FILL.format(first=there + 1, last=wanted))
        there = wanted
        found[str(wanted)] = _costs(url, messages, meter, effort.operations)["take"].processor
    return found


def _session_bytes(meter: Meter) -> float:
    sessions = meter.value("SELECT count(*) FROM turnlock.session")
    return meter.value("SELECT pg_total_relation_size('turnlock.session')") / sessions


def _flush(directory: str) -> float:
    with tempfile.TemporaryFile(dir=directory) as file:
        took = []
        for _ in range(100):
            os.write(file.fileno(), b"x" * 8192)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took)
