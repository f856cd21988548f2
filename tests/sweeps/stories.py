"""What is swept: a state directory as it was left, and what a process then does to it.

Each story names the sessions that it has to do with. Its turns are named after the processes that
run them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tests.helpers import PATIENCE
from tests.oracle import Asked, Died, Tampered
from turnlock.backends.files import Platform, StateDirectory, native, portable
from turnlock.backends.files.guard import GUARD_TIMEOUT
from turnlock.doctor.examine import examine
from turnlock.doctor.healing import Healer
from turnlock.lock import SessionLock
from turnlock.session import parse_key
from turnlock.store import Store, open_store
from turnlock.transcript.entries import Entry
from turnlock.transcript.jsonl import encode

from .actors import Wire, actor
from .clients import Client, Note, OneTurn, appends, fails, now, open_files, reads, tells_epoch

A, B, C, D, E, F = "main/a", "main/b", "main/c", "other/d", "other/e", "other/f"
# Above any pid_max.
_NO_PID = 2**22 + 1
_HEADER = {"type": "session", "version": 3, "id": "s", "timestamp": "2026-01-01T00:00:00.000Z"}


class Story(NamedTuple):
    """``act`` is swept. ``holder`` holds a session meanwhile, and goes on when ``act`` is over;
    ``rival`` runs beside it.
    """

    name: str
    prepare: Callable[[str, Note], None]
    act: Callable[[Client], object]
    sessions: tuple[str, ...] = (A,)
    holder: Callable[[Client, Wire], object] | None = None
    rival: Callable[[Client], object] | None = None
    platform: Callable[[], Platform] = native
    actor: str = "victim"

    def open(self, root: str, *, ahead: float = 0.0, guard_timeout: float = GUARD_TIMEOUT) -> Store:
        return open_files(root, ahead=ahead, guard_timeout=guard_timeout, platform=self.platform())


# How a state directory was left


def untouched(root: str, note: Note) -> None:
    """Nobody was here."""


def begun(root: str, note: Note) -> None:
    _lives(root, note, A, "first")


def left_dead(root: str, note: Note) -> None:
    _lives(root, note, A, "first")
    _dies(root, note, A, "dead", appends(2))


def left_dead_unwritten(root: str, note: Note) -> None:
    """Of a turn that wrote nothing the claim is the only record; there is no transcript."""
    _dies(root, note, A, "dead")


def left_by_another_program(root: str, note: Note) -> None:
    _write_foreign(root, note, A)


def left_in_a_mess(root: str, note: Note) -> None:
    """One of each that doctor repairs."""
    left_dead(root, note)
    _lives(root, note, B, "first-b")
    _dies(root, note, B, "dead-b", appends())
    _lock(root, B).unlink()
    note(Tampered(now(), B))
    _lives(root, note, C, "first-c")
    with open(_lock(root, C).with_suffix(""), "ab") as file:
        file.write(b'{"type":"message","id":"torn')
    _write_foreign(root, note, D)
    _dies(root, note, E, "dead-e")
    stray = _lock(root, A).with_name("a.jsonl.lock.0123456789abcdef.tmp")
    stray.write_bytes(b"{")
    an_hour_ago = time.time() - 3600
    os.utime(stray, (an_hour_ago, an_hour_ago))


def damaged(root: str, note: Note) -> None:
    """A transcript with something to heal, and a turn that is owed its marker."""
    _lives(root, note, A, "first")
    with open(_lock(root, A).with_suffix(""), "ab") as file:
        file.write(b'{"type":"message","id":"torn\n')
    _dies(root, note, A, "dead", appends())


def _lives(root: str, note: Note, session: str, name: str) -> None:
    _past(root, note, name, lambda client: client.turn(session, name, appends(2), reads))


def _dies(
    root: str, note: Note, session: str, name: str, *steps: Callable[[OneTurn], object]
) -> None:
    _past(root, note, name, lambda client: client.turn(session, name, *steps, _kill_this_process))
    note(Died(now(), name))


def _past(root: str, note: Note, name: str, act: Callable[[Client], object]) -> None:
    def work(wire: Wire) -> None:
        act(Client(open_store(root), wire.tell, name))

    with actor(name, work) as one:
        one.ended(note)


def _kill_this_process(turn: OneTurn) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _lock(root: str, session: str) -> Path:
    return Path(StateDirectory(root).place(parse_key(session)).lock)


def _write_foreign(root: str, note: Note, session: str) -> None:
    """As OpenClaw leaves a session when it is killed: a lock, and a call without result."""
    note(Asked(now(), f"foreign-pid-{_NO_PID}", session, "another program"))
    note(Died(now(), "another program"))
    lock = _lock(root, session)
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock.write_text(json.dumps({"pid": _NO_PID, "createdAt": "2026-01-01T00:00:00.000Z"}))
    call = {"type": "toolCall", "id": "call", "name": "look", "arguments": {}}
    entries: Iterable[Entry] = (
        _HEADER,
        _foreign_entry(f"u-{session}", {"role": "user", "content": "1"}),
        _foreign_entry(f"c-{session}", {"role": "assistant", "content": [call]}),
    )
    lock.with_suffix("").write_bytes(b"".join(map(encode, entries)))


def _foreign_entry(identity: str, message: Entry) -> Entry:
    return {"type": "message", "id": identity, "timestamp": "2026", "message": message}


# What a process does


def turns(client: Client) -> None:
    """Take, append, append, end; and again, with what the first left open; one that fails."""
    client.turn(A, "1", appends(2), tells_epoch, appends(1, again=True), wait=PATIENCE)
    client.turn(A, "2", reads, appends(), wait=PATIENCE)
    client.turn(A, "3", appends(), fails, wait=PATIENCE)


def one_turn(client: Client) -> None:
    client.turn(A, "1", appends(), tells_epoch, appends(), wait=PATIENCE)


def releases(client: Client) -> None:
    """Turns that write nothing, well and badly; a lock without turns."""
    client.turn(A, "1", wait=PATIENCE)
    client.turn(A, "2", fails, wait=PATIENCE)
    place = StateDirectory(client.store.location).place(parse_key(A))
    with client.noting_errors(), SessionLock(place.transcript, wait=PATIENCE):
        pass


def revokes(client: Client) -> None:
    client.revoke(A, "holder-1")


def outlives_its_limit(client: Client) -> None:
    """The watchdog of the very process takes the session from a turn that hangs."""
    client.turn(A, "1", appends(), _hangs, wait=PATIENCE, max_hold=0.01)
    client.turn(A, "2", appends(), wait=PATIENCE)


def cleans_up(client: Client) -> None:
    with client.noting_errors():
        client.store.clean_stale()


def runs_doctor(client: Client) -> None:
    with client.noting_errors():
        examine(client.store.location, fix=True)


def heals(client: Client) -> None:
    with client.noting_errors():
        Healer(StateDirectory(client.store.location), parse_key(A)).heal(wait=PATIENCE)


def _hangs(turn: OneTurn) -> None:
    deadline = time.monotonic() + PATIENCE
    while not turn.turn.revoked and time.monotonic() < deadline:
        time.sleep(0.001)
    turn.append()


def holds(client: Client, wire: Wire, session: str = A) -> None:
    """A turn that appends, waits to be told, and appends again."""

    def is_told(turn: OneTurn) -> None:
        wire.tell(Holding())
        wire.wait()

    client.turn(session, "1", appends(), is_told, appends(), wait=PATIENCE)


def holds_another(client: Client, wire: Wire) -> None:
    """As `holds`, but nobody is to take it away."""
    holds(client, wire, F)


class Holding(NamedTuple):
    """A holder has what it wants, and waits to be told to go on."""


MESS = (A, B, C, D, E)
LIVELY = (*MESS, F)

STORIES = (
    Story("take, append, release", untouched, turns),
    Story("take, append, release (portable)", untouched, turns, platform=portable),
    Story("take what is there", begun, turns),
    Story("release without a word", untouched, releases),
    Story("take over the dead", left_dead, one_turn),
    Story("take over the dead (portable)", left_dead, one_turn, platform=portable),
    Story("take over one that wrote nothing", left_dead_unwritten, one_turn),
    Story("take over another program's", left_by_another_program, one_turn),
    Story("take over the dead beside a rival", left_dead, one_turn, rival=one_turn),
    Story("take beside a rival", untouched, turns, rival=turns),
    Story("revoke", begun, revokes, holder=holds),
    Story("revoke beside a rival", begun, revokes, holder=holds, rival=one_turn),
    Story("watchdog", begun, outlives_its_limit),
    Story("start-up clean-up", left_in_a_mess, cleans_up, MESS),
    Story("doctor --fix", left_in_a_mess, runs_doctor, MESS),
    Story("clean-up beside a live turn", left_in_a_mess, cleans_up, LIVELY, holds_another),
    Story("doctor --fix beside a live turn", left_in_a_mess, runs_doctor, LIVELY, holds_another),
    Story("sessions heal", damaged, heals),
)


def story(name: str) -> Story:
    return next(one for one in STORIES if one.name == name)
