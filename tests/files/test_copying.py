"""A copy between stores holds both sessions for as long as it takes, or ends, and is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import turnlock
from turnlock.backends import Lost
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.lease import FileLease
from turnlock.copying import Result
from turnlock.pruning import Fate
from turnlock.store import Store

TURNS = 3


@pytest.fixture
def source(state: Path) -> Store:
    store = turnlock.open_store(state)
    for number in range(TURNS):
        with store.turn("main/a") as turn:
            turn.append(turnlock.user(f"{number}"))
    return store


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return turnlock.open_store(tmp_path / "target")


@pytest.fixture(autouse=True)
def every_line_is_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlock.copying._BATCH_BYTES", 1)


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_copy_whose_session_is_taken_meanwhile_ends_and_says_so(
    source: Store, target: Store, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {"source": source, "target": target}[which]
    renew = FilesBackend.renew

    def lost(backend: FilesBackend, leases: Any) -> Any:
        return leases if backend is taken._backend else renew(backend, leases)

    with monkeypatch.context() as during:
        during.setattr(FilesBackend, "renew", lost)
        assert target.copy_from(source, "main/a").result is Result.BUSY
    # What was copied is how it begins, so the next one goes on with it.
    assert target.copy_from(source, "main/a").result is Result.COPIED
    assert list(target.read_lines("main/a")) == list(source.read_lines("main/a"))


def test_an_append_that_is_fenced_is_no_traceback(source: Store, tmp_path: Path) -> None:
    class Fenced(FilesBackend):
        def append(self, *_: object) -> None:
            raise Lost

    fenced = Store(Fenced(StateDirectory(str(tmp_path / "fenced"))), location="fenced")
    assert fenced.copy_from(source, "main/a").result is Result.BUSY
    assert fenced.locks() == []


def test_a_copy_that_was_cut_short_in_a_line_is_gone_on_with_for_ever(
    source: Store, target: Store, state: Path, tmp_path: Path
) -> None:
    """A full disk leaves the beginning of a line; the next copy ends that, and stores it whole."""
    whole = next(state.rglob("*.jsonl")).read_bytes()
    target.copy_from(source, "main/a")
    copy = next((tmp_path / "target").rglob("*.jsonl"))
    copy.write_bytes(whole[: len(whole) // 3])
    assert target.copy_from(source, "main/a").result is Result.COPIED
    copy.write_bytes(copy.read_bytes()[: len(whole) * 2 // 3])
    assert target.copy_from(source, "main/a").result is Result.COPIED
    assert target.copy_from(source, "main/a").result is Result.SAME
    with source.turn("main/a") as turn:
        turn.append(turnlock.user("more"))
    assert target.copy_from(source, "main/a").result is Result.COPIED
    assert target.copy_from(source, "main/a").result is Result.SAME
    assert list(target.read("main/a")) == list(source.read("main/a"))
    damaged = [line.raw for line in target.read_lines("main/a") if line.is_damaged]
    assert len(damaged) == 2
    # Whatever else is in it is of another session.
    copy.write_bytes(whole[:-9] + b"\n" + b"damaged\n" + whole[-9:])
    assert target.copy_from(source, "main/a").result is Result.DIFFERS


def test_bytes_behind_the_last_line_keep_their_session_until_they_are_a_line(
    source: Store, target: Store, state: Path
) -> None:
    """They are in no line, so no archive gets them, and pruning would destroy them."""
    transcript = next(state.rglob("*.jsonl"))
    whole = transcript.read_bytes()
    transcript.write_bytes(whole + b'{"type":"mess')
    assert source.prune("main/a", idle=0.0, archive=target).fate is Fate.LEFT_OUT
    assert transcript.read_bytes() == whole + b'{"type":"mess'
    with source.turn("main/a") as turn:
        turn.append(turnlock.user("next"))
    assert source.prune("main/a", idle=0.0, archive=target).fate is Fate.GONE
    assert b'{"type":"mess' in [line.raw for line in target.read_lines("main/a")]


def test_an_entry_that_lacks_its_newline_is_archived_as_a_line(
    source: Store, target: Store, state: Path
) -> None:
    transcript = next(state.rglob("*.jsonl"))
    lines = [line.raw for line in source.read_lines("main/a")]
    transcript.write_bytes(transcript.read_bytes()[:-1])
    assert source.prune("main/a", idle=0.0, archive=target).fate is Fate.GONE
    assert [line.raw for line in target.read_lines("main/a")] == lines


def test_a_target_that_another_program_writes_meanwhile_is_in_use(
    source: Store, tmp_path: Path
) -> None:
    class Written(FilesBackend):
        def append(self, lease: FileLease, *rest: Any) -> None:
            with Path(lease.place.transcript).open("ab") as transcript:
                transcript.write(b"another\n")
            super().append(lease, *rest)

    target = Store(Written(StateDirectory(str(tmp_path / "written"))), location="written")
    assert target.copy_from(source, "main/a").result is Result.BUSY
    assert source.prune("main/a", idle=0.0, archive=target).fate is Fate.DIFFERS
    assert target.locks() == source.locks() == []
    empty = Store(Written(StateDirectory(str(tmp_path / "empty"))), location="empty")
    assert source.prune("main/a", idle=0.0, archive=empty).fate is Fate.BUSY
    assert [one.session for one in source.sessions()] == ["main/a"]
