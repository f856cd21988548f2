"""Each invariant sees its violation, and nothing in a history that is right."""

from __future__ import annotations

import pytest

from tests.oracle import (
    Acked,
    Asked,
    Began,
    Died,
    EpochTold,
    Event,
    Granted,
    History,
    Leaving,
    Left,
    MarkerOwed,
    Outcome,
    PowerCut,
    Read,
    Record,
    Revoked,
    Started,
    Tampered,
    check,
    held_too_long,
    record,
    unchanged,
    unmarked,
)


def opening(epoch: int, turn_id: str) -> Record:
    return Record(epoch, "opening", f"o{epoch}", turn_id)


def message(epoch: int, identity: str) -> Record:
    return Record(epoch, "message", identity)


def end(epoch: int, turn_id: str) -> Record:
    return Record(epoch, "end", f"e{epoch}", turn_id)


def marker(epoch: int, turn_id: str, reason: str) -> Record:
    return Record(epoch, "error-marker", f"m{epoch}", turn_id, reason)


ONE = (opening(1, "T1"), message(1, "a"), end(1, "T1"))
TWO = (opening(2, "T2"), message(2, "b"), end(2, "T2"))


def found(*events: Event, transcript: tuple[Record, ...] = ONE) -> list[str]:
    history = History()
    for event in events:
        history.note(event)
    return [violation.invariant for violation in check(history, {"main/a": transcript})]


def asked(at: float, turn_id: str, process: str = "p0") -> Asked:
    return Asked(at, turn_id, "main/a", process, lane=process)


def test_a_history_that_is_right_violates_nothing() -> None:
    told = (
        asked(1.0, "T1"),
        Granted(2.0, "T1"),
        Began(3.0, "T1", ("a",)),
        Acked(4.0, "T1", ("a",), 3.0),
        EpochTold(4.5, "T1", 1),
        Left(5.0, "T1", Outcome.OK),
        Read(6.0, "main/a", ONE, 5.5),
    )
    assert found(*told, transcript=ONE + TWO) == []


class TestTranscripts:
    def test_a_turn_inside_of_another(self) -> None:
        assert "I1" in found(transcript=(opening(1, "T1"), *TWO, end(1, "T1")))

    def test_an_epoch_that_goes_back_or_is_given_twice(self) -> None:
        assert "I2" in found(transcript=TWO + ONE)
        assert "I2" in found(transcript=(*ONE, opening(1, "T9"), end(1, "T9")))

    def test_an_id_that_is_there_twice(self) -> None:
        assert found(transcript=(opening(1, "T1"), *[message(1, "a")] * 2, end(1, "T1"))) == ["I4"]

    def test_a_turn_without_its_only_end_at_its_end(self) -> None:
        assert found(transcript=ONE[:2]) == ["I6"]
        assert "I6" in found(transcript=(*ONE, message(1, "late")))
        assert "I6" in found(transcript=(*ONE, marker(1, "T1", "error")))
        assert "I6" in found(transcript=ONE[1:])


class TestHistories:
    def test_an_epoch_that_a_turn_was_told_and_does_not_have(self) -> None:
        assert found(EpochTold(1.0, "T1", 7)) == ["I2"]

    def test_a_write_of_the_revoked(self) -> None:
        revoked = Revoked(1.0, "T1", "operator")
        assert found(revoked, Began(2.0, "T1", ("a",))) == ["I3"]
        assert "I3" in found(revoked, Acked(3.0, "T1", ("a",), 2.0))
        assert found(Began(0.5, "T1", ("a",)), revoked, Began(2.0, "T1", ("a",))) == []

    def test_a_revocation_for_no_reason(self) -> None:
        assert found(Revoked(1.0, "T1", "released")) == ["I3"]
        assert found(Revoked(1.0, "T1", "superseded"), Revoked(2.0, "T1", "hold-limit")) == []

    def test_what_was_acknowledged_and_is_not_there_or_is_anothers(self) -> None:
        assert found(Acked(2.0, "T1", ("lost",), 1.0)) == ["I4"]
        assert found(Acked(2.0, "T1", ("b",), 1.0), transcript=ONE + TWO) == ["I4"]

    def test_a_transcript_that_shrinks(self) -> None:
        first, second = Read(2.0, "main/a", ONE, 1.0), Read(4.0, "main/a", ONE[:1], 3.0)
        assert found(first, second) == ["I5"]
        assert found(first, transcript=TWO) == ["I5"]

    def test_a_turn_that_begins_before_the_one_before_it_has_ended(self) -> None:
        unfinished = (opening(1, "T1"),)
        read = Read(4.0, "main/a", unfinished, 3.0, "T2")
        granted = (Granted(1.0, "T1"), Granted(2.0, "T2"))
        assert found(*granted, read) == ["I6"]
        lost = Revoked(5.0, "T2", "superseded")
        assert found(*granted, read, lost) == ["I6"]
        assert found(*granted, read, lost, Tampered(3.0, "main/a")) == []

    def test_a_zombie_that_sees_what_came_after_it_was_not_before_its_time(self) -> None:
        mine, next_one = (opening(1, "T1"), marker(1, "T1", "stall-limit")), opening(2, "T2")
        # It hears of its own grant last.
        granted = (Granted(1.0, "T2"), Granted(2.0, "T1"))
        after = (*mine, next_one)
        assert found(*granted, Read(4.0, "main/a", after, 3.0, "T1"), transcript=after) == ["I6"]
        ended = (*after, end(2, "T2"))
        assert found(*granted, Read(4.0, "main/a", after, 3.0, "T1"), transcript=ended) == []
        before = (opening(1, "T2"), opening(2, "T1"))
        assert "I6" in found(*granted, Read(4.0, "main/a", before, 3.0, "T1"), transcript=ended)

    def test_a_turn_that_ended_well_and_is_marked_as_failed(self) -> None:
        marked = (opening(1, "T1"), marker(1, "T1", "error"))
        assert found(Left(1.0, "T1", Outcome.OK), transcript=marked) == ["I6"]

    def test_a_power_cut_may_bring_the_claim_of_a_turn_back_that_wrote_nothing(self) -> None:
        marked = (opening(1, "T1"), marker(1, "T1", "interrupted"))
        ended, cut = Left(1.0, "T1", Outcome.OK), (Died(2.0, "p0"), PowerCut(2.0))
        of_p0 = asked(0.5, "T1")
        assert found(of_p0, ended, Died(2.0, "p0"), transcript=marked) == ["I6"]
        assert found(of_p0, ended, *cut, transcript=marked) == []
        wrote = Acked(0.9, "T1", (), 0.8)
        assert found(of_p0, wrote, ended, *cut, transcript=marked) == ["I6"]

    def test_who_jumps_the_queue(self) -> None:
        asking = (asked(1.0, "T1"), asked(2.0, "T2"))
        left = (Left(9.0, "T1", Outcome.OK), Left(9.0, "T2", Outcome.OK))
        assert found(*asking, Granted(3.0, "T2"), Granted(4.0, "T1"), *left) == ["I8"]
        assert found(*asking, Granted(3.0, "T1"), Granted(4.0, "T2"), *left) == []

    def test_who_is_given_a_session_twice(self) -> None:
        assert found(Started(1.0, "T1"), Started(2.0, "T1")) == ["I8"]
        assert found(Started(1.0, "T1"), Started(2.0, "T2")) == []

    def test_who_is_never_answered_unless_its_process_died(self) -> None:
        assert found(asked(1.0, "T1")) == ["I8"]
        assert found(asked(1.0, "T1"), Died(2.0, "p0")) == []

    def test_the_living_who_are_called_dead(self) -> None:
        interrupted = (opening(1, "T1"), marker(1, "T1", "interrupted"))
        left = Left(3.0, "T1", Outcome.REVOKED)
        assert found(asked(1.0, "T1"), left, transcript=interrupted) == ["I9"]
        assert found(asked(1.0, "T1"), Died(2.0, "p0"), transcript=interrupted) == []
        # Of who was cancelled before it was given the session nobody heard how that ended.
        left = Left(3.0, "T1", Outcome.CANCELLED)
        assert found(asked(1.0, "T1"), left, transcript=interrupted) == []
        granted = Granted(2.0, "T1")
        assert found(asked(1.0, "T1"), granted, left, transcript=interrupted) == ["I9"]


def test_who_holds_for_longer_than_its_limit() -> None:
    history = History()
    history.note(Asked(1.0, "T1", "main/a", "p0", max_hold=2.0))
    history.note(Granted(2.0, "T1"))
    history.note(Left(5.0, "T1", Outcome.OK))
    assert [v.invariant for v in held_too_long(history, slack=0.5)] == ["I7"]
    assert list(held_too_long(history, slack=1.5)) == []


def test_who_has_given_its_session_back_holds_it_no_more() -> None:
    history = History()
    history.note(Asked(1.0, "T1", "main/a", "p0", max_hold=2.0))
    history.note(Granted(2.0, "T1"))
    history.note(Leaving(3.0, "T1"))
    history.note(Left(9.0, "T1", Outcome.OK))
    assert list(held_too_long(history, slack=0.5)) == []


def test_who_did_not_end_well_and_has_no_marker() -> None:
    history = History()
    for event in (asked(1.0, "T1"), Granted(2.0, "T1"), Died(3.0, "p0")):
        history.note(event)
    marked = (opening(1, "T1"), marker(1, "T1", "interrupted"))
    assert [v.invariant for v in unmarked(history, {"main/a": ()})] == ["I6"]
    assert list(unmarked(history, {"main/a": marked})) == []


@pytest.mark.parametrize(
    "known",
    [
        Leaving(2.5, "T1"),
        MarkerOwed(2.5, "T1"),
        Tampered(2.5, "main/a"),
        Left(2.5, "T1", Outcome.OK),
    ],
)
def test_who_needs_no_marker(known: Event) -> None:
    history = History()
    for event in (asked(1.0, "T1"), Granted(2.0, "T1"), known):
        history.note(event)
    assert list(unmarked(history, {"main/a": ()})) == []


def test_who_failed_after_its_block_had_ended_has_a_marker_all_the_same() -> None:
    history = History()
    failed = (Leaving(2.5, "T1"), Left(3.0, "T1", Outcome.FAILED))
    for event in (asked(1.0, "T1"), Granted(2.0, "T1"), *failed):
        history.note(event)
    assert [v.invariant for v in unmarked(history, {"main/a": ()})] == ["I6"]


def test_a_repetition_that_changes_something() -> None:
    assert [v.invariant for v in unchanged({"x": b"1"}, {"x": b"2"})] == ["I10"]
    assert list(unchanged({"x": b"1"}, {"x": b"1"})) == []


def test_records_are_what_the_public_reader_prints() -> None:
    entry = {"type": "custom", "customType": "turnlock:turn", "id": "x", "epoch": 3}
    assert record(entry | {"data": {"v": 1, "turnId": "T1"}}) == Record(3, "opening", "x", "T1")
    assert record({"type": "message", "id": "y", "epoch": 3}) == Record(3, "message", "y")
