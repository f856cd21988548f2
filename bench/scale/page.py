"""docs/design/scale.md, from the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..page import number, table
from .measuring import BATCH, CONNECTIONS, PARTITIONED, PARTS, RENEWAL, RENEWALS, Measured
from .model import Host, Load, Usage, load, rate, shares, turn_processor, turn_wal, turns_a_core

SESSIONS = (1e5, 1e7)

_HEAD = """\
# How far one database goes

Written by `python -m bench.scale`, numbers and all; they are in
[scale.json](../benchmarks/scale.json) as well. It needs PostgreSQL's server and Linux.

What is *measured* was measured on the machine below, on a server of its own that waits for its
disk. What is *computed* follows from that by the model, and from what is *assumed* of usage and of
the host: nobody has run these numbers of sessions. Compare the processors of your server with
those here before you believe a figure.
"""

_MODEL = """\
## The model, checked

Turns a second with one append each, by so many connections of one process on the same machine:
what the model says, and what was measured beside it. The model: one after the other is bounded by
how long a turn takes alone ({alone} ms here, with four commits; a flush of the disk alone takes
{flush} ms), at once by the processors ({processors}, of which a turn uses {server} ms in the
server and {client} ms in the client).
"""

_READING = """\
A figure well above the model: commits that wait for the disk at the same time share a flush, and
what waits uses no processor. Well below: something that the model does not know of was in the way,
other users of the machine first of all.
"""

_FIRST = """\
## What breaks first

Computed for the busiest hour, of what a host is assumed to have: {processors:.0f} processors,
{wal:.0f} MB/s for its log, {disk:.0f} TB, {connections:.0f} connections. A session is assumed to
have {turns:.0f} turns a day, {peak:.0f} times as many as that in the busiest hour, of
{seconds:.0f} s and {appends:.0f} appends; a gateway to run {gateway:.0f} turns at once.
"""

_ROAD = """\
## The road

**Retention first.** The disk is used by what was ever said. `turnlock prune` takes away what nobody
has used for so many days, after it was exported: see
[sessions in PostgreSQL](../howto/postgresql.md).

**A pooler** once gateways may open more connections than the server should have. Turnlock runs
behind PgBouncer in transaction mode; what it loses is being notified, so that waiters look by
themselves.

**Parts by session.** No statement looks at two sessions' entries, so the table of entries can be
parted by a hash of `session_id`, which is in its primary key: vacuum, freezing and indexes then
work on a part each. It costs an append {parted} of processor time ({parts} parts, measured). There
is no migration that does it: a table that is in service has to be copied.

**Looks for dead leases** go over all that are held, and every gateway looks: nothing among
thousands of leases, most of the work among a hundred thousand. An index on the end of a lease would
be changed by every renewal; but not every gateway has to look.

**A longer lease** makes renewals rarer in proportion, and the sessions of a dead gateway free
later in the same proportion.

**Standbys** for failing over are in use already (`target_session_attrs`). For reading, listing and
export they would do as well; Turnlock reads from the primary only.

**Beyond one primary.** A session is one row and its entries; a turn, its waiters and its fence
touch no other. So sessions can be dealt out over as many databases as are needed, by a hash of the
key, and each is what this page says of one: nothing is shared, and there is nothing to agree on
between them. What it takes: a list of URLs in place of one, in one order on every gateway; lists of
sessions and locks that ask each database; and to move a session, a copy under both its locks, which
`turnlock import` and `export` do already, and a word that it has moved, which nothing says yet.
None of that is built. A database that is spread out by itself below the SQL would do where it keeps
single-row updates and read committed as PostgreSQL does; none was tried.
"""


def page(machine: dict[str, str], warning: str, measured: Measured) -> str:
    usage, host = Usage(), Host()
    loads = [load(measured, usage, sessions) for sessions in SESSIONS]
    parts = [_HEAD]
    if warning:
        parts.append(f"> **Loaded:** {warning}.\n")
    parts += [
        table(("measured on", ""), machine.items()),
        "## What things cost the database (measured)\n",
        table(("", "processor, ms", "log, bytes", "a second and core"), _costs(measured)),
        _said(measured),
        _MODEL.format(
            alone=number(1e3 * measured.alone),
            flush=number(1e3 * measured.flush),
            processors=measured.processors,
            server=number(1e3 * turn_processor(measured)),
            client=number(1e3 * measured.client),
        ),
        table(("connections", "computed", "measured", "measured to computed"), _checked(measured)),
        _READING,
        _FIRST.format(
            processors=host.processors,
            wal=host.wal_bytes_a_second / 1e6,
            disk=host.disk_bytes / 1e12,
            connections=host.connections,
            turns=usage.turns_a_day,
            peak=usage.peak,
            seconds=usage.turn_seconds,
            appends=usage.appends,
            gateway=usage.turns_a_gateway,
        ),
        table(("computed", *(f"{int(s):,} sessions" for s in SESSIONS)), _loads(loads)),
        *(_breaks(one, host) for one in loads),
        _ROAD.format(parts=PARTS, parted=_more(measured)),
    ]
    return "\n".join(parts)


def _costs(measured: Measured) -> Iterator[tuple[str, ...]]:
    for name, cost in measured.costs.items():
        yield (
            _NAMES.get(name, name),
            number(1e3 * cost.processor),
            number(cost.wal_bytes),
            number(1 / cost.processor),
        )
    yield (
        "a whole turn with one append",
        number(1e3 * turn_processor(measured)),
        number(turn_wal(measured)),
        number(turns_a_core(measured)),
    )


_NAMES = {
    "append": "append of one message and the turn's opening",
    "end": "append of the terminal entry",
    "give_back": "release",
}


def _said(measured: Measured) -> str:
    changed = measured.changed
    one, many = (measured.costs[name].processor for name in (RENEWAL, RENEWALS))
    takes = "; ".join(
        f"{int(sessions):,} sessions: {number(1e3 * seconds)} ms"
        for sessions, seconds in measured.take_by_sessions.items()
    )
    return (
        f"A turn with one append inserts {number(changed.inserted)} rows and updates"
        f" {number(changed.updated)}, in four commits. A line of"
        f" {number(measured.line_bytes)} bytes needs {number(measured.entry_bytes)} on the disk,"
        f" with its indexes; a session {number(measured.session_bytes)}. A connection's process"
        f" has {number(measured.connection_bytes / 1e6)} MB for itself. Each lease that is renewed"
        f" together with {BATCH - 1} others costs {number(one / (many / BATCH))} times less"
        " processor time than alone. A take, by the number of sessions in the table:"
        f" {takes}.\n"
    )


def _checked(measured: Measured) -> Iterator[tuple[str, ...]]:
    for connections in CONNECTIONS:
        computed, found = rate(measured, connections), measured.rates[str(connections)]
        yield str(connections), number(computed), number(found), f"{found / computed:.2f}"


def _loads(loads: Iterable[Load]) -> Iterator[tuple[str, ...]]:
    loads = list(loads)

    def row(title: str, *values: float) -> tuple[str, ...]:
        return title, *map(number, values)

    yield row("turns a second", *(one.turns for one in loads))
    yield row("turns at once, each a lease", *(one.held for one in loads))
    yield row("gateways", *(one.gateways for one in loads))
    yield row("messages a second", *(one.messages for one in loads))
    for part in loads[0].processors:
        yield row(f"processors busy with {part}", *(one.processors[part] for one in loads))
    yield row("processors busy", *(sum(one.processors.values()) for one in loads))
    yield row("log, MB/s, pages known", *(one.wal / 1e6 for one in loads))
    yield row("log, MB/s, each turn on new pages", *(one.wal_cold / 1e6 for one in loads))
    yield row("connections at work", *(one.connections_busy for one in loads))
    yield row("connections that gateways may open", *(one.connections for one in loads))
    yield row("entries written, GB a day", *(one.disk_a_day / 1e9 for one in loads))
    yield row("table of sessions, GB", *(one.disk_sessions / 1e9 for one in loads))


def _breaks(one: Load, host: Host) -> str:
    parts = list(shares(one, host))
    listed = "; ".join(f"{name} {100 * share:,.0f} %" for name, share in parts)
    what, share = parts[0]
    head = f"**{int(one.sessions):,} sessions** use, of what that host has: {listed}."
    if share < 1:
        return f"{head} Nothing breaks; *{what}* would be the first.\n"
    busy, most = max(one.processors.items(), key=lambda part: part[1])
    why = (
        f" Most of the processors' work is {busy} ({number(most)} of them)."
        if parts[0][0] == "processors" or most > host.processors
        else ""
    )
    return f"{head} *{what[0].upper()}{what[1:]}* breaks first.{why}\n"


def _more(measured: Measured) -> str:
    more = measured.costs[PARTITIONED].processor / measured.costs["append"].processor - 1
    return f"{100 * abs(more):.0f} % {'more' if more >= 0 else 'less'}"
