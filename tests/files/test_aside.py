"""Moving another program's lock aside: only the file that was judged, whoever comes in between."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.doctor.planting import bytes_of, claim_of, gone_pid, lock, sleeper, start_time
from tests.helpers import eventually
from turnlock.backends import STALE_AFTER
from turnlock.backends.files import FilesBackend, StateDirectory, native
from turnlock.backends.files.aside import ASSUMED_LIMIT, Ruling, is_aside, name_aside, rule
from turnlock.backends.files.fileops import FileOps
from turnlock.backends.files.inspect import Inspector, Judged
from turnlock.clock import SystemClock
from turnlock.errors import LockPathError, StoreError
from turnlock.session import parse_key


def judged(state: Path) -> Judged:
    """The lock of main/a, looked at."""
    inspector = Inspector(FileOps(), SystemClock(), native().processes)
    place = StateDirectory(str(state)).place(parse_key("main/a"))
    found = inspector.look(place, to_take=False, stale_after=STALE_AFTER)
    assert found is not None
    return found


class Interfering(FileOps):
    """Does something at the worst moment: right before the rename that moves the lock."""

    def __init__(self, between: list[bytes]) -> None:
        self._between = between

    def rename(self, source: str, path: str) -> None:  # type: ignore[override]
        """The holder lets go, and somebody takes the lock: the path names another file."""
        if self._between:
            os.unlink(source)
            Path(source).write_bytes(self._between.pop(0))
        os.rename(source, path)
        if self._between:
            Path(source).write_bytes(self._between.pop(0))


def move(state: Path, found: Judged, files: FileOps | None = None) -> str | None:
    return FilesBackend(StateDirectory(str(state)), files=files).move_aside(found)


def test_it_is_renamed_byte_for_byte_to_a_name_that_is_no_lock(state: Path) -> None:
    path = lock(state, claim_of(gone_pid()))
    before = path.read_bytes()
    moved_to = move(state, judged(state))
    assert moved_to is not None
    assert Path(moved_to).read_bytes() == before
    assert not path.exists()
    assert is_aside(os.path.basename(moved_to))
    assert moved_to.startswith(f"{path}.released-")
    assert not moved_to.endswith((".lock", ".jsonl", ".tmp"))
    assert list(FilesBackend(StateDirectory(str(state))).locks()) == []


def test_nothing_else_in_the_directory_changes(state: Path) -> None:
    path = lock(state, claim_of(gone_pid()))
    path.chmod(0o644)
    before = bytes_of(state)
    moved_to = move(state, judged(state))
    assert moved_to is not None
    after = bytes_of(state)
    assert after.pop(moved_to) == before.pop(str(path))
    assert after == before


def test_two_locks_of_one_moment_get_two_names(state: Path) -> None:
    path = lock(state, b"one")
    first = name_aside(str(path), 0.0)
    path.rename(first)
    second = name_aside(str(path), 0.0)
    assert first != second
    assert is_aside(os.path.basename(second))


def test_a_lock_that_was_replaced_before_is_not_touched(state: Path) -> None:
    path = lock(state, claim_of(gone_pid()))
    found = judged(state)
    path.unlink()
    lock(state, b"the next one's")
    assert move(state, found) is None
    assert path.read_bytes() == b"the next one's"
    assert os.listdir(path.parent).count(path.name) == 1
    path.unlink()
    assert move(state, found) is None, "it is gone"


def test_a_lock_that_changes_hands_under_the_rename_gets_its_name_back(state: Path) -> None:
    path = lock(state, claim_of(gone_pid()))
    found = judged(state)
    names = sorted(os.listdir(path.parent))
    assert move(state, found, Interfering([b"the next one's"])) is None
    assert path.read_bytes() == b"the next one's"
    assert sorted(os.listdir(path.parent)) == names


def test_without_the_second_look_the_next_ones_lock_would_be_gone(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lock(state, claim_of(gone_pid()))
    found = judged(state)
    monkeypatch.setattr("turnlock.backends.files.aside.file_id", lambda status: found.id)
    assert move(state, found, Interfering([b"the next one's"])) is not None
    assert not path.exists()


def test_a_third_one_that_takes_the_free_path_keeps_it_and_both_are_named(state: Path) -> None:
    path = lock(state, claim_of(gone_pid()))
    found = judged(state)
    with pytest.raises(LockPathError) as caught:
        move(state, found, Interfering([b"the second's", b"the third's"]))
    assert path.read_bytes() == b"the third's"
    (aside,) = (name for name in os.listdir(path.parent) if is_aside(name))
    assert (path.parent / aside).read_bytes() == b"the second's"
    assert aside in str(caught.value)


def test_a_directory_that_cannot_be_written_is_an_error_and_nothing_moves(state: Path) -> None:
    class Refusing(FileOps):
        def rename(self, source: str, path: str) -> None:  # type: ignore[override]
            raise PermissionError(13, "Permission denied", source)

    path = lock(state, claim_of(gone_pid()))
    with pytest.raises(StoreError, match="move aside"):
        move(state, judged(state), Refusing())
    assert path.exists()


@pytest.mark.parametrize(
    ("age", "fields", "ruling"),
    [
        (299.0, {"maxHoldMs": 300_000}, Ruling.WITHIN_LIMIT),
        (310.0, {"maxHoldMs": 300_000}, Ruling.PAST_LIMIT),
        (ASSUMED_LIMIT - 20, {}, Ruling.WITHIN_LIMIT),
        (ASSUMED_LIMIT + 20, {}, Ruling.PAST_LIMIT),
        (ASSUMED_LIMIT + 20, {"maxHoldMs": 10**9}, Ruling.WITHIN_LIMIT),
        (1801.0, {}, Ruling.GONE),
        (-3600.0, {}, Ruling.WITHIN_LIMIT),
    ],
)
def test_the_ruling_on_a_live_holder(
    state: Path, age: float, fields: dict[str, int], ruling: Ruling
) -> None:
    with sleeper() as process:
        lock(state, claim_of(process.pid, age=age, **fields))
        assert rule(judged(state)) is ruling


def test_the_ruling_on_one_with_a_start_time_is_by_its_limit_at_any_age(state: Path) -> None:
    with sleeper() as process:
        started = start_time(process.pid)
        lock(state, claim_of(process.pid, age=86400.0, starttime=started, maxHoldMs=300_000))
        assert rule(judged(state)) is Ruling.PAST_LIMIT
        lock(state, claim_of(process.pid, starttime=started + 1, maxHoldMs=300_000))
        assert rule(judged(state)) is Ruling.GONE
    eventually(lambda: rule(judged(state)) is Ruling.GONE)


@pytest.mark.parametrize("fields", [{"host": "elsewhere"}, {"pidNamespace": 1}])
def test_what_nobody_here_can_judge_is_unknown(state: Path, fields: dict[str, object]) -> None:
    lock(state, claim_of(os.getpid(), age=86400.0, **fields))
    assert rule(judged(state)) is Ruling.UNKNOWN
    lock(state, json.dumps({"createdAt": "x"}).encode())
    assert rule(judged(state)) is Ruling.UNKNOWN
