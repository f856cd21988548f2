"""Hostile and odd objects at the lock path and at the transcript's: a clear answer, at once."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.helpers import PATIENCE
from turnlock.backends.files.fileops import FileOps
from turnlock.backends.files.waiting import Waiting
from turnlock.store import Store


@pytest.fixture
def lock(state: Path) -> Path:
    directory = state / "agents/main/sessions"
    directory.mkdir(parents=True)
    return directory / "a.jsonl.lock"


@pytest.fixture
def store(state: Path) -> Store:
    return turnlock.open_store(state)


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


OBJECTS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "symlink": lambda path: path.symlink_to("/dev/zero"),
    "dangling symlink": lambda path: path.symlink_to("/nowhere"),
    "10 MB": lambda path: path.write_bytes(b"x" * 10_000_000),
    "NULs": lambda path: path.write_bytes(b"\0" * 4096),
    "deep JSON": lambda path: path.write_bytes(b"[" * 60_000),
    "empty": Path.touch,
}


UNREADABLE = ["10 MB", "NULs", "deep JSON", "empty"]


@pytest.mark.parametrize("kind", [kind for kind in OBJECTS if kind not in UNREADABLE])
def test_what_is_no_claim_is_an_error_and_left_alone(store: Store, lock: Path, kind: str) -> None:
    OBJECTS[kind](lock)
    with pytest.raises(turnlock.LockPathError) as caught, store.turn("main/a"):
        pass
    assert caught.value.path == str(lock)
    assert lock.is_symlink() or lock.exists()


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_its_maker_may_still_be_writing_is_waited_for(
    store: Store, lock: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may have died between making its lock and writing it."""
    OBJECTS[kind](lock)
    with pytest.raises(turnlock.SessionBusy), store.turn("main/a", wait=0):
        pass
    assert lock.exists()
    wait = Waiting.wait

    def wait_long(*args: Any) -> None:
        os.utime(lock, (time.time() - 60, time.time() - 60))
        wait(*args)

    monkeypatch.setattr(Waiting, "wait", wait_long)
    with store.turn("main/a", wait=PATIENCE) as turn:
        turn.append(turnlock.user("1"))
    assert not lock.exists()


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_has_been_unreadable_for_long_is_superseded(
    store: Store, lock: Path, kind: str
) -> None:
    OBJECTS[kind](lock)
    os.utime(lock, (time.time() - 60, time.time() - 60))
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        assert json.loads(lock.read_text())["turnId"] == turn.turn_id
    assert not lock.exists()


@pytest.mark.parametrize("kind", OBJECTS)
def test_clean_up_keeps_what_it_cannot_judge_and_goes_on(
    store: Store, lock: Path, kind: str
) -> None:
    OBJECTS[kind](lock)
    dead = lock.with_name("b.jsonl.lock")
    dead.write_text('{"pid": 2147483646, "createdAt": "2026-01-01T00:00:00Z"}')
    records = {record.path: record for record in store.clean_stale()}
    assert not records[str(lock)].removed
    assert records[str(dead)].removed
    assert lock.is_symlink() or lock.exists()
    assert not dead.exists()
    assert not dead.with_name("b.jsonl").exists()


def test_one_agent_directory_that_cannot_be_listed_hides_no_other(store: Store, lock: Path) -> None:
    dead = '{"pid": 2147483646, "createdAt": "2026-01-01T00:00:00Z"}'
    lock.write_text(dead)
    loop = lock.parent.parent.parent / "aaa"
    loop.mkdir()
    (loop / "sessions").symlink_to("sessions")
    assert [record.removed for record in store.clean_stale()] == [True]
    assert list(store.sessions()) == []


class Unreadable(FileOps):
    """Fails the reads of one path, as a disk with a bad block does."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def open_quietly(self, path: str):  # type: ignore[no-untyped-def]
        if path == self._path:
            raise OSError(5, "Input/output error")
        return super().open_quietly(path)


def test_a_read_error_is_no_absence(state: Path, lock: Path) -> None:
    from turnlock.backends.files import FilesBackend, StateDirectory

    lock.write_text('{"pid": 2147483646, "createdAt": "2026-01-01T00:00:00Z"}')
    backend = FilesBackend(StateDirectory(str(state)), files=Unreadable(lock))
    store = Store(backend, location="test")
    (record,) = store.clean_stale()
    assert (record.stale, record.removed) == (False, False)
    with pytest.raises(turnlock.StoreError), store.turn("main/a", wait=0):
        pass
    assert lock.exists()


@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink"])
def test_a_transcript_that_is_no_file_is_refused(store: Store, lock: Path, kind: str) -> None:
    transcript = lock.with_name("a.jsonl")
    OBJECTS[kind](transcript)
    with pytest.raises(turnlock.TranscriptError), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    assert not lock.exists()
    with pytest.raises(turnlock.TranscriptError):
        list(store.read("main/a"))


def test_a_socket_at_the_lock_path_is_refused(store: Store, lock: Path) -> None:
    a_socket(lock)
    with pytest.raises(turnlock.LockPathError), store.turn("main/a"):
        pass


def test_a_state_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(turnlock.StoreError, match="not a directory"):
        turnlock.open_store(tmp_path / "file")


def test_two_names_of_one_directory_are_one_store(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    (tmp_path / "alias").symlink_to(state)
    with turnlock.open_store(state).turn("main/a"):
        alias = turnlock.open_store(tmp_path / "alias")
        with pytest.raises(turnlock.AlreadyHeld), alias.turn("main/a"):
            pass


def test_what_is_made_is_private(state: Path) -> None:
    old = os.umask(0)
    try:
        with turnlock.open_store(state).turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            lock = state / "agents/main/sessions/a.jsonl.lock"
            assert lock.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)
    assert (state / "agents/main/sessions/a.jsonl").stat().st_mode & 0o777 == 0o600
    for directory in ("", "agents", "agents/main", "agents/main/sessions"):
        assert (state / directory).stat().st_mode & 0o777 == 0o700
