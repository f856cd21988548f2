"""The model: what a number of sessions asks of one database, from the costs that were measured.

Its rules, all of them:

* A turn takes, appends so many times, writes its terminal entry and gives back: each is a message,
  a message is a commit, and its processor time and log are those measured. Where there are many
  gateways a take also reads the end of the transcript, as another gateway wrote it.
* So many turns run at once as begin in the time that one lasts (Little's law). Each of them is
  renewed three times in a lease's time, by messages that ask for all leases of a gateway.
* Every gateway looks for dead leases every two seconds, and each look goes over all that are held.
* Connections that are at work: the messages of a second times how long one takes.
* Turns one after the other are bounded by how long one takes alone; turns at once by the
  processors, which client and server share where both are on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .measuring import BATCH, COLD, END, HELD, LOOKS, RENEWALS, STEPS, Measured

_DAY = 86400.0
# As the code has them: the lease's time, and how often a gateway looks for dead leases. Seconds.
LEASE = 10.0
LOOK_EVERY = 2.0
# A gateway's pool, and the connection that listens.
CONNECTIONS_A_GATEWAY = 11


class Usage(NamedTuple):
    """What sessions are used for. Assumed, not measured: put in your own."""

    turns_a_day: float = 10.0
    peak: float = 4.0
    turn_seconds: float = 30.0
    appends: float = 5.0
    turns_a_gateway: float = 500.0


class Host(NamedTuple):
    """The database's host. Assumed; its processors are taken for those that were measured on."""

    processors: float = 16.0
    wal_bytes_a_second: float = 200e6
    disk_bytes: float = 4e12
    connections: float = 500.0


class Load(NamedTuple):
    """What it comes to in the busiest hour. ``processors``: busy ones, by what keeps them busy."""

    sessions: float
    turns: float
    held: float
    gateways: float
    messages: float
    processors: dict[str, float]
    wal: float
    wal_cold: float
    connections_busy: float
    connections: float
    disk_a_day: float
    disk_sessions: float


def turn_processor(measured: Measured) -> float:
    """Processor seconds of the database for a turn with one append."""
    return sum(measured.costs[step].processor for step in STEPS)


def turn_wal(measured: Measured) -> float:
    return sum(measured.costs[step].wal_bytes for step in STEPS)


def rate(measured: Measured, connections: int) -> float:
    """Turns a second that so many connections get done, where client and server share a machine."""
    one_by_one = connections / measured.alone
    return min(one_by_one, measured.processors / (turn_processor(measured) + measured.client))


def turns_a_core(measured: Measured) -> float:
    return 1 / turn_processor(measured)


def load(measured: Measured, usage: Usage, sessions: float) -> Load:
    costs = measured.costs
    turns = sessions * usage.turns_a_day * usage.peak / _DAY
    held = turns * usage.turn_seconds
    gateways = max(1.0, held / usage.turns_a_gateway)
    renewals = held * 3 / LEASE
    looks = gateways / LOOK_EVERY
    renewal = costs[RENEWALS].processor / BATCH
    appends = usage.appends * costs["append"].processor
    steps = {
        "takes": turns * (costs["take"].processor + costs[END].processor),
        "appends": turns * (appends + costs["end"].processor),
        "releases": turns * costs["give_back"].processor,
        "renewals": renewals * renewal,
        "looks for dead leases": looks * look(measured, held),
    }
    wal = turns * (turn_wal(measured) + (usage.appends - 1) * costs["append"].wal_bytes)
    wal_renewals = renewals * costs[RENEWALS].wal_bytes / BATCH
    messages = turns * (usage.appends + 4) + gateways * 1.0 + looks
    # A page that is new since a checkpoint is logged whole, so the first change costs more.
    cold = costs[COLD].wal_bytes - turn_wal(measured)
    entries = sessions * usage.turns_a_day * (usage.appends + 2)
    return Load(
        sessions=sessions,
        turns=turns,
        held=held,
        gateways=gateways,
        messages=messages,
        processors=steps,
        wal=wal + wal_renewals,
        wal_cold=wal + wal_renewals + turns * cold,
        connections_busy=messages * measured.alone / len(STEPS),
        connections=gateways * CONNECTIONS_A_GATEWAY,
        disk_a_day=entries * measured.entry_bytes,
        disk_sessions=sessions * measured.session_bytes,
    )


def look(measured: Measured, held: float) -> float:
    """Processor seconds of one look for dead leases: what it costs anyhow, and for each lease."""
    few, many = (measured.costs[LOOKS[some]].processor for some in HELD)
    each = max(0.0, (many - few) / (HELD[1] - HELD[0]))
    return few + each * max(0.0, held - HELD[0])


def shares(found: Load, host: Host) -> Iterator[tuple[str, float]]:
    """How much of each thing that the host has; the first to break first. Days for the disk."""
    parts = {
        "processors": sum(found.processors.values()) / host.processors,
        "log to the disk and to standbys": found.wal_cold / host.wal_bytes_a_second,
        "connections that gateways may open": found.connections / host.connections,
        "connections at work": found.connections_busy / host.connections,
        "disk, by what 90 days write": 90 * found.disk_a_day / host.disk_bytes,
    }
    return iter(sorted(parts.items(), key=lambda part: -part[1]))
