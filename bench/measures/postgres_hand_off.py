"""From the release to the waiter that has the session, between gateways of one database."""

from __future__ import annotations

from contextlib import ExitStack

from tests.postgres.server import programs

from ..contenders import Contender
from ..database import database, unmeasured
from ..measure import Bench, in_rounds, result_of, row_of
from ..results import Column, Result
from ..subjects.postgres import NOTIFY, POSTGRES
from .hand_off import Pair

_TITLE = "between processes"


class PostgresHandOff:
    name = "postgres-hand-off"
    title = "Hand-off between gateways"
    what = "How long a session in a database lies idle between a release and a waiter elsewhere."
    how = (
        "Two processes of one database that know nothing of each other, as gateways on two hosts."
        " One holds the session while the other stands in line, long enough to be asleep; the"
        " holder notes the time and releases; the waiter notes the time when it has the session."
        " They change roles every time."
    )
    floor = "*NOTIFY* by one connection, and another that listens: no row, no line, no lease."
    reading = (
        "The release commits, and with it goes the notification; the waiter is woken and takes the"
        " session with another commit. Both wait for the disk, which the floor does not. Without a"
        " notification, behind a pooler, a waiter looks by itself every two seconds."
    )

    def run(self, bench: Bench) -> Result:
        if programs() is None:
            return unmeasured(self.name)
        with database(bench.directory) as url, ExitStack() as stack:
            pairs = {}
            for subject in POSTGRES:
                two = [stack.enter_context(Contender(subject, url)) for _ in range(2)]
                pairs[subject.name] = Pair(*two, is_lock=subject is not NOTIFY)
            for one in pairs.values():
                # Both have been holders by then, so both listen.
                one.hand_over()
                one.hand_over()
            late = in_rounds(
                bench.scale.hand_offs, {name: one.hand_over for name, one in pairs.items()}
            )
        rows = [row_of(subject, {_TITLE: late[subject.name]}) for subject in POSTGRES]
        return result_of(self, [Column(_TITLE, "ms")], rows)
