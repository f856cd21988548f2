"""The invariants, each a function from what was seen to what is wrong with it.

I1   writes of two turns never interleave
I2   epochs never decrease, and none is given twice
I3   a revocation is final
I4   what was acknowledged is there, once; what was not is there at most once
I5   a transcript only grows
I6   one terminal entry for every turn that wrote, before anything of the next
I7   nobody holds for longer than its limit
I8   in one process first come, first served; every waiter is answered
I9   nobody is called dead who lives
I10  what is done a second time changes nothing
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeVar

from .history import (
    Acked,
    Asked,
    Began,
    Died,
    EpochTold,
    Granted,
    History,
    Leaving,
    Left,
    MarkerOwed,
    Outcome,
    PowerCut,
    Read,
    Revoked,
    Started,
    Stopped,
    Tampered,
)
from .records import Record

E = TypeVar("E")
Transcripts = Mapping[str, Sequence[Record]]


class Violation(NamedTuple):
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def check(history: History, transcripts: Transcripts) -> list[Violation]:
    """Every violation. ``transcripts`` are as the public reader prints them when all is over."""
    found: list[Violation] = []
    for session, transcript in transcripts.items():
        for name, rule in OF_A_TRANSCRIPT:
            found += (Violation(name, f"{session}: {what}") for what in rule(transcript))
    for name, relation in OF_A_HISTORY:
        found += (Violation(name, what) for what in relation(history, transcripts))
    return found


def unchanged(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[Violation]:
    """I10, for what is on the disk before and after a repetition."""
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield Violation("I10", f"a repetition changed {path}")


def held_too_long(history: History, *, slack: float) -> Iterator[Violation]:
    """I7: nobody ends well who held a session for longer than its limit and ``slack`` seconds.

    For tests whose disks are quick: a turn may end well that hangs in its own end. Whose process
    was stopped is given that time. A turn whose block has ended holds nothing, however late its
    caller, whose loop is blocked by others, hears that it ended well.
    """
    leaving = {event.turn_id: event.at for event in _all(history, Leaving)}
    stopped = {event.process for event in _all(history, Stopped)}
    limits = {
        event.turn_id: event.max_hold
        for event in _all(history, Asked)
        if event.process not in stopped and event.max_hold is not None
    }
    granted = {event.turn_id: event.at for event in _all(history, Granted)}
    for event in _all(history, Left):
        limit = limits.get(event.turn_id)
        ended = leaving.get(event.turn_id, event.at)
        held = ended - granted.get(event.turn_id, ended)
        if event.outcome is Outcome.OK and limit is not None and held > limit + slack:
            yield Violation("I7", f"turn {event.turn_id} held for {held:.1f} s, limit {limit} s")


def unmarked(history: History, transcripts: Transcripts) -> Iterator[Violation]:
    """I6: whoever was granted a session and did not end well has its error marker.

    For tests that cut no power: only the claim of a turn that wrote nothing says that it was there,
    and a claim is not durable; nor is it there once somebody has removed it by hand. Who died, was
    cancelled or revoked after its block had ended may have ended well.
    """
    owed = {event.turn_id for event in _all(history, MarkerOwed)}
    left = {event.turn_id: event.outcome for event in _all(history, Left)}
    leaving = {event.turn_id for event in _all(history, Leaving)}
    tampered = {event.session for event in _all(history, Tampered)}
    session = {event.turn_id: event.session for event in _all(history, Asked)}
    ended = {
        one.turn_id for transcript in transcripts.values() for one in transcript if one.is_terminal
    }
    for event in _all(history, Granted):
        turn = event.turn_id
        outcome = left.get(turn, Outcome.CANCELLED)
        well = outcome is Outcome.OK or (turn in leaving and outcome is not Outcome.FAILED)
        if not well and turn not in ended | owed and session.get(turn) not in tampered:
            yield Violation("I6", f"turn {turn} did not end well and has no error marker")


# Of a transcript alone


def turns_interleave(transcript: Sequence[Record]) -> Iterator[str]:
    """I1: between a turn's opening and its terminal entry all records are its own."""
    unfinished: Record | None = None
    for one in transcript:
        if unfinished is not None and one.epoch != unfinished.epoch:
            yield f"{_name(one)} lies inside of the turn of epoch {unfinished.epoch}"
        if one.kind == "opening":
            unfinished = one
        elif one.is_terminal:
            unfinished = None


def epochs_decrease(transcript: Sequence[Record]) -> Iterator[str]:
    """I2: epochs never decrease, and one belongs to one turn."""
    numbered = [one for one in transcript if one.epoch is not None]
    for before, after in pairwise(numbered):
        assert before.epoch is not None
        assert after.epoch is not None
        if after.epoch < before.epoch:
            yield f"epoch {after.epoch} comes after {before.epoch}"
    openings = Counter(one.epoch for one in numbered if one.kind == "opening")
    yield from (f"epoch {epoch} is opened {n} times" for epoch, n in openings.items() if n > 1)
    turns = Counter(one.turn_id for one in numbered if one.kind == "opening")
    yield from (f"turn {turn} opens {n} times" for turn, n in turns.items() if n > 1)


def ids_repeat(transcript: Sequence[Record]) -> Iterator[str]:
    """I4: no id is there twice."""
    ids = Counter(one.id for one in transcript)
    yield from (f"the id {identity!r} is there {n} times" for identity, n in ids.items() if n > 1)


def turns_end_badly(transcript: Sequence[Record]) -> Iterator[str]:
    """I6: a turn's records begin with its opening and end with its only terminal entry."""
    numbered = (one for one in transcript if one.epoch is not None)
    for epoch, group in groupby(numbered, key=lambda one: one.epoch):
        turn = list(group)
        terminals = sum(one.is_terminal for one in turn)
        if turn[0].kind != "opening":
            yield f"epoch {epoch} begins with {_name(turn[0])}"
        if terminals != 1:
            yield f"epoch {epoch} has {terminals} terminal entries"
        elif not turn[-1].is_terminal:
            yield f"epoch {epoch} goes on after its terminal entry: {_name(turn[-1])}"


OF_A_TRANSCRIPT: list[tuple[str, Callable[[Sequence[Record]], Iterator[str]]]] = [
    ("I1", turns_interleave),
    ("I2", epochs_decrease),
    ("I4", ids_repeat),
    ("I6", turns_end_badly),
]


# Of what was seen


def epochs_told_are_wrong(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I2: an epoch that a turn was told is that turn's, also after everything else."""
    opened = _openings(transcripts)
    for event in _all(history, EpochTold):
        if opened.get(event.turn_id) != event.epoch:
            yield (
                f"turn {event.turn_id} was told epoch {event.epoch}, and the transcript says"
                f" {opened.get(event.turn_id)}"
            )


def the_revoked_write(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I3: nothing that was requested after a revocation was reported is acknowledged or there."""
    revoked = _first_revocations(history)
    present = {one.id for transcript in transcripts.values() for one in transcript}
    in_time: set[str] = set()
    for event in history:
        if isinstance(event, Acked) and event.began > revoked.get(event.turn_id, _NEVER):
            yield f"turn {event.turn_id} was acknowledged {event.ids} after it was revoked"
        elif isinstance(event, Began) and event.at <= revoked.get(event.turn_id, _NEVER):
            in_time.update(event.ids)
        elif isinstance(event, Began):
            yield from (
                f"turn {event.turn_id} wrote {identity} after it was revoked"
                for identity in event.ids
                if identity in present and identity not in in_time
            )


def revocations_have_no_reason(history: History, _: Transcripts) -> Iterator[str]:
    """I3: whoever hears of a revocation hears why."""
    for event in _all(history, Revoked):
        if event.reason not in _REASONS:
            yield f"turn {event.turn_id} was revoked for {event.reason!r}, which is no reason"


def the_acknowledged_is_lost(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I4: every acknowledged id is there, under the epoch of its turn."""
    opened = _openings(transcripts)
    epochs = {one.id: one.epoch for transcript in transcripts.values() for one in transcript}
    for event in _all(history, Acked):
        for identity in event.ids:
            if identity not in epochs:
                yield f"{identity} of turn {event.turn_id} was acknowledged and is not there"
            elif epochs[identity] != opened.get(event.turn_id):
                yield f"{identity} of turn {event.turn_id} is there with epoch {epochs[identity]}"


def transcripts_shrink(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I5: what a reader saw is the beginning of what a later one sees."""
    longest: dict[str, Read] = {}
    for event in _all(history, Read):
        before = longest.get(event.session)
        is_later = before is not None and before.at < event.began
        if before and is_later and event.records[: len(before.records)] != before.records:
            yield f"{event.session} read at {event.at} does not go on where {before.at} was"
        if before is None or len(event.records) >= len(before.records):
            longest[event.session] = event
    for session, read in longest.items():
        if tuple(transcripts.get(session, ()))[: len(read.records)] != read.records:
            yield f"{session}: what was read at {read.at} is not the beginning of what is there"


def predecessors_are_unfinished(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I6: who holds a session finds every earlier turn finished, but for markers owed.

    Earlier: what precedes its own entries; by the order of grants where it has none yet. A zombie
    sees what comes after it, too; and so does who lost its lock file by somebody's hand before it
    was told of its grant.
    """
    tampered = {event.session for event in _all(history, Tampered)}
    lost = {event.turn_id for event in _all(history, Revoked)}
    owed = {event.turn_id for event in _all(history, MarkerOwed)}
    order = {event.turn_id: place for place, event in enumerate(_all(history, Granted))}
    for event in _all(history, Read):
        if event.turn_id is None or (event.turn_id in lost and event.session in tampered):
            continue
        finished = {one.epoch for one in event.records if one.is_terminal}
        turns = [one.turn_id for one in event.records]
        own = turns.index(event.turn_id) if event.turn_id in turns else None
        for place, one in enumerate(event.records):
            granted = order.get(one.turn_id or "", _NEVER) < order.get(event.turn_id, _NEVER)
            earlier = granted if own is None else place < own
            unfinished = one.kind == "opening" and one.epoch not in finished
            if unfinished and earlier and one.turn_id not in owed:
                yield f"turn {event.turn_id} began while turn {one.turn_id} was unfinished"


def somebody_jumps_the_queue(history: History, _: Transcripts) -> Iterator[str]:
    """I8: in one lane a turn that was asked for later is not granted before an earlier one.

    Of two that were both granted; and a turn that was revoked before its caller heard of the grant
    says nothing about the order.
    """
    granted = {event.turn_id for event in _all(history, Granted)}
    granted -= {event.turn_id for event in _all(history, Revoked)}
    waiting: dict[str, Asked] = {}
    for event in history:
        if isinstance(event, Asked) and event.lane is not None and event.turn_id in granted:
            waiting[event.turn_id] = event
        elif isinstance(event, Granted) and event.turn_id in waiting:
            mine = waiting.pop(event.turn_id)
            yield from (
                f"turn {mine.turn_id} was granted before {other.turn_id}, which came first"
                for other in waiting.values()
                if (other.lane, other.session) == (mine.lane, mine.session) and other.at < mine.at
            )


def a_turn_starts_twice(history: History, _: Transcripts) -> Iterator[str]:
    """I8: who asked for a session is given it once."""
    started = Counter(event.turn_id for event in _all(history, Started))
    yield from (f"turn {turn} started {n} times" for turn, n in started.items() if n > 1)


def nobody_answers(history: History, _: Transcripts) -> Iterator[str]:
    """I8: every turn that was asked for has an outcome, unless its process died."""
    died = {event.process for event in _all(history, Died)}
    left = {event.turn_id for event in _all(history, Left)}
    for event in _all(history, Asked):
        if event.turn_id not in left and event.process not in died:
            yield f"turn {event.turn_id} never had an answer"


def the_living_are_called_dead(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I9: only the turn of a process that was killed is marked as interrupted.

    Or one that ended by an error of the storage, whether its caller was told or had been cancelled
    before it was given the session; or whose marker was owed, or whose lock file somebody removed
    by hand: that is all there is to know of them.
    """
    started = {event.turn_id for event in _all(history, Started)}
    started |= {event.turn_id for event in _all(history, Granted)}
    failed = {
        event.turn_id
        for event in _all(history, Left)
        if event.outcome is Outcome.FAILED
        or (event.outcome is Outcome.CANCELLED and event.turn_id not in started)
    }
    died = {event.process for event in _all(history, Died)}
    owed = {event.turn_id for event in _all(history, MarkerOwed)}
    tampered = {event.session for event in _all(history, Tampered)}
    process = {event.turn_id: event.process for event in _all(history, Asked)}
    for session, transcript in transcripts.items():
        for one in transcript:
            lived = process.get(one.turn_id or "") not in died
            lived = lived and one.turn_id not in owed | failed
            if one.reason == "interrupted" and lived and session not in tampered:
                yield f"turn {one.turn_id} was called interrupted, and its process lived"


def outcomes_are_wrong(history: History, transcripts: Transcripts) -> Iterator[str]:
    """I6: a turn that wrote ends as its caller was told.

    The removal of a claim is not made durable: after a power cut it may be back. Of a turn that
    wrote anything the transcript says how it ended. Of one that wrote nothing, and ended well,
    there is nothing but its claim, and it is called interrupted.
    """
    cut = max((event.at for event in _all(history, PowerCut)), default=-math.inf)
    wrote = {event.turn_id for event in _all(history, Acked)}
    ends = {
        one.turn_id: one
        for transcript in transcripts.values()
        for one in transcript
        if one.is_terminal
    }
    for event in _all(history, Left):
        end = ends.get(event.turn_id)
        if end is None:
            continue
        only_claimed = event.turn_id not in wrote and event.at < cut
        is_back = only_claimed and end.reason == "interrupted"
        if event.outcome is Outcome.OK and end.kind != "end" and not is_back:
            yield f"turn {event.turn_id} ended well, and its transcript says {end.reason}"
        if event.outcome is Outcome.BUSY:
            yield f"turn {event.turn_id} was never granted, and wrote"


OF_A_HISTORY: list[tuple[str, Callable[[History, Transcripts], Iterator[str]]]] = [
    ("I2", epochs_told_are_wrong),
    ("I3", the_revoked_write),
    ("I3", revocations_have_no_reason),
    ("I4", the_acknowledged_is_lost),
    ("I5", transcripts_shrink),
    ("I6", predecessors_are_unfinished),
    ("I6", outcomes_are_wrong),
    ("I8", somebody_jumps_the_queue),
    ("I8", a_turn_starts_twice),
    ("I8", nobody_answers),
    ("I9", the_living_are_called_dead),
]

_NEVER = float("inf")
# What `LeaseRevoked.reason` is documented to be.
_REASONS = frozenset(
    (
        *("error", "hold-limit", "stall-limit", "model-limit", "cancelled", "operator"),
        *("interrupted", "superseded", "forked"),
    )
)


def _name(one: Record) -> str:
    return f"{one.kind} {one.id} of epoch {one.epoch}"


def _openings(transcripts: Transcripts) -> dict[str | None, int | None]:
    return {
        one.turn_id: one.epoch
        for transcript in transcripts.values()
        for one in transcript
        if one.kind == "opening"
    }


def _first_revocations(history: History) -> dict[str, float]:
    revoked: dict[str, float] = {}
    for event in _all(history, Revoked):
        revoked.setdefault(event.turn_id, event.at)
    return revoked


def _all(history: Iterable[object], kind: type[E]) -> list[E]:
    return [event for event in history if isinstance(event, kind)]
