"""A. Who owns the lock: identity and staleness."""

from __future__ import annotations

from pathlib import Path

import turnlock
from tests.helpers import holder
from tests.mutants import Edit, Mutant
from turnlock.events import LockReclaimed

from .declaring import Bite, mode, waits

DEAD_IS_HELD = Mutant(
    "a claim whose flock is free counts as held",
    Edit(
        "backends/files/judgement.py",
        """\
    if claim.boot_id == here.boot_id:
        return Verdict(State.STALE,""",
        """\
    if claim.boot_id == here.boot_id:
        return Verdict(State.LIVE,""",
    ),
)


@mode("A2", bites=Bite(DEAD_IS_HELD, shows="SessionBusy"))
def test_a2_a_killed_holder_is_reclaimed_by_whoever_comes_next(state: Path) -> None:
    events: list[object] = []
    store = turnlock.open_store(state)
    store.subscribe(events.append)
    with holder(state, "T1") as process:
        process.kill()
        (found,) = store.locks()
        with store.turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("next"))
    assert (found.stale, found.reasons) == (True, ("dead-pid",))
    assert LockReclaimed("main/a", process.pid, "T1", "interrupted") in events


waits(
    "A26",
    needs="inbox",
    why="a message that waits for longer than its limit is refused with what holds it and"
    " until when; to be kept and answered later it needs a place",
)
waits("A29", needs="inbox", why="what arrives during a turn has no place outside of the lock yet")
