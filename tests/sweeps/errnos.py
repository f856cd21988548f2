"""Every file call fails once, in every way: an errno, a short write, a write that is cut and fails.

The error comes at the n-th call, for every n until the story runs to its end untouched. Whoever
meets it gets an error of Turnlock's or none, never the system's own. When the fault is gone, the
very same process has its turn, has not a descriptor more than one that met no fault, and so has a
process that comes later. A holder of another session, beside it, keeps its session.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers import PATIENCE
from tests.oracle import Acked as AppendAcked
from tests.oracle import MarkerOwed, Outcome, Violation

from .actors import Wire, actor
from .calls import Watcher, watch
from .clients import Client, appends, reads
from .pool import Share, Work, spread
from .scenes import (
    Ground,
    Seen,
    copy_of,
    describe,
    end_all,
    noting_overdue,
    partners,
    prepare,
    quiet,
    verdict,
)
from .stories import MESS, STORIES, Story, story
from .tally import Tally

_ERRNOS = ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "EACCES", "EROFS", "EINTR", "ESTALE", "ENOLCK")
# A write that says how little it wrote, and one that fails after a part: a disk that is full.
_SHORT, _CUT = "short write", "cut write"
KINDS = (*_ERRNOS, _SHORT, _CUT)
# No fault: what is open at the end is the measure.
_NEVER = 1 << 30


def quick(work: Work) -> Work:
    return work._replace(stride=151)


def sweep(work: Work) -> Tally:
    tally = Tally()
    # What is there both alone and beside a live turn is swept beside it.
    stories = [
        one.name
        for one in STORIES
        if one.rival is None and one.sessions != MESS and work.chooses(one.name)
    ]
    for found in spread(work, refuse_all, work.shares(stories)):
        tally.add(found)
    return tally


def refuse_all(share: Share) -> Tally:
    tally = Tally()
    one = story(share.story)
    ground = prepare(one, share.at / "ground")
    measure = refuse(Fault(_NEVER, KINDS[0]), one, ground, share.at / "measure", tally, None)
    for fault in _faults(share):
        at = share.at / f"{fault.number}-{fault.kind}"
        came = refuse(fault, one, ground, at, tally, measure.open)
        if came.calls < fault.number:
            break
    return tally


class Fault(NamedTuple):
    """The ``number``-th call of a process fails in this way."""

    number: int
    kind: str


class Through(NamedTuple):
    """A process came to its end. ``open``: what it has open of the state directory by then."""

    calls: int
    fired: str
    open: dict[str, int]


class Acted(NamedTuple):
    """A process has done what may fail; when all others are through, it goes on."""


def _faults(share: Share) -> Iterator[Fault]:
    if share.only is not None:
        return (Fault(share.only.number, kind) for kind in KINDS)
    numbers = islice(count(), share.rest, None, share.modulus)
    return (Fault(1 + number // len(KINDS), KINDS[number % len(KINDS)]) for number in numbers)


def refuse(
    fault: Fault,
    one: Story,
    ground: Ground,
    at: Path,
    tally: Tally,
    measure: dict[str, int] | None,
) -> Through:
    """One run with one fault. ``measure``: what a process without has open at its end."""
    seen = Seen(ground.events)
    root = copy_of(ground, at)
    through: list[Through] = []

    def note(what: object) -> None:
        if isinstance(what, Through):
            through.append(what)
        seen.note(what)

    with (
        noting_overdue(seen),
        partners(one, root, seen) as others,
        actor(one.actor, _works(one, root, fault)) as victim,
    ):
        victim.until(Acted, note)
        end_all(others, seen)
        victim.go_on()
        victim.ended(note)
    came = through[0] if through else Through(_NEVER, "", {})
    if measure is not None and came.fired:
        tally.counts["faults"] += 1
        tally.fired[came.fired] += 1
        more = {path: n for path, n in came.open.items() if n > measure.get(path, 0)}
        if more:
            seen.note(Violation("I13", f"left open: {more}, without the fault: {measure}"))
    found = verdict(one.sessions, root, seen, tolerant=True)
    found = tuple(what for what in found if not _is_excused(what, one, seen))
    if found:
        tally.missed(f"{one.name}, before call {fault.number}, {fault.kind}", describe(found))
    shutil.rmtree(root)
    return came


def _is_excused(what: Violation, one: Story, seen: Seen) -> bool:
    """What a fault of the disk may cost the process that meets it.

    A watchdog that has no room for a claim frees the path instead. Then nothing says why the turn
    was revoked; and of one that wrote nothing, nothing says that it was. That it owes the marker is
    reported.
    """
    acked = {event.turn_id for event in seen.events if isinstance(event, AppendAcked)}
    owed = {event.turn_id for event in seen.events if isinstance(event, MarkerOwed)}
    turn = what.what.partition("turn ")[2].partition(" ")[0]
    own = turn.startswith(f"{one.actor}-")
    return own and (
        what.invariant == "I9"
        or ("no error marker" in what.what and turn in owed and turn not in acked)
    )


class _Refuse(Watcher):
    def __init__(self, fault: Fault) -> None:
        self.fired = ""
        self.is_over = False
        self._fault = fault

    def instead(
        self, number: int, call: str, arguments: tuple[Any, ...], go_on: Callable[..., Any]
    ) -> Any:
        kind = self._fault.kind
        is_write = call == "write" and len(arguments[1]) > 1
        comes = number == self._fault.number and not self.is_over
        if not comes or (kind in (_SHORT, _CUT) and not is_write):
            return go_on(*arguments)
        self.fired = call
        if kind in _ERRNOS:
            raise _error(kind)
        handle, data = arguments
        written = go_on(handle, data[: len(data) // 2])
        if kind == _CUT:
            raise _error("ENOSPC")
        return written


def _error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


def _works(one: Story, root: str, fault: Fault) -> Callable[[Wire], None]:
    def work(wire: Wire) -> None:
        quiet()
        client = Client(one.open(root), wire.tell, one.actor, prefix=f"{one.actor}-")
        refuses = _Refuse(fault)
        calls = watch(refuses)
        one.act(client)
        made = calls()
        refuses.is_over = True
        wire.tell(Acted())
        wire.wait()
        # Its error holds the frames that it came through, and what they had open.
        client.forget()
        for session in one.sessions[:5]:
            outcome = client.turn(session, f"usable-{session}", reads, appends(), wait=PATIENCE)
            if outcome is not Outcome.OK:
                client.violates("I11", f"afterwards its turn on {session} ended {outcome.value}")
        wire.tell(Through(made, refuses.fired, _open_files(root)))

    return work


def _open_files(root: str) -> dict[str, int]:
    gc.collect()
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(root):
            suffix = path.removeprefix(root).removesuffix(" (deleted)").rpartition(".")[2]
            found[suffix] += 1
    return dict(found)
