"""Who hands a session over touches nothing of a successor, and can be mistaken for none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.doctor.planting import claim_of, gone_pid, lock
from tests.files.test_faults import a_store, assert_turns_are_whole
from tests.files.test_protocol import KEY, Meanwhile, a_backend
from tests.helpers import child, kinds
from turnlock.backends import Holder, Lost, TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.backends.files.lease import FileLease
from turnlock.doctor.fragments import TornCopy
from turnlock.transcript.tail import Tail

REQUEST = TakeRequest("T", 60.0)
# ext4 gives the number of a file that nobody has open to the very next one.
TAKES = 20


def taken(backend: FilesBackend, turn_id: str = "T") -> FileLease:
    lease = backend.take(KEY, TakeRequest(turn_id, 60.0))
    assert not isinstance(lease, Holder)
    return lease


def superseded(backend: FilesBackend, lease: FileLease | None) -> FileLease | None:
    return backend.supersede(KEY, TakeRequest(None, 2.0), lease=lease, reason="operator")


def test_a_revoked_lease_is_never_mistaken_for_a_successors(state: Path) -> None:
    """Its claim stays open for as long as somebody may write with it, so its number stays taken."""
    backend = a_backend(state)
    zombie = taken(backend)
    ours = superseded(backend, zombie)
    assert ours is not None
    assert os.fstat(zombie.claim.fd).st_nlink == 0
    backend.release(ours)
    for _ in range(TAKES):
        successor = taken(backend, "next")
        assert not backend.holds(zombie)
        with pytest.raises(Lost):
            backend.append(zombie, [b"{}\n"], Tail())
        backend.release(successor)


def test_who_revokes_a_lease_that_was_released_takes_nothing_from_a_successor(state: Path) -> None:
    backend = a_backend(state)
    released = taken(backend)
    backend.release(released)
    assert os.fstat(released.claim.fd).st_nlink == 0
    for _ in range(TAKES):
        successor = taken(backend, "next")
        assert superseded(backend, released) is None
        assert backend.holds(successor)
        backend.release(successor)


def refused(state: Path, got: list[Any]) -> Callable[[], None]:
    """Another program of ours tries to take the session in the middle of somebody's step."""
    other = a_backend(state)

    def take() -> None:
        try:
            got.append(superseded(other, None))
        except turnlock.StoreError:
            got.append("refused")

    return take


def test_a_release_that_is_stopped_before_its_unlink_removes_no_successors_lock(
    state: Path,
) -> None:
    got: list[Any] = []
    backend = a_backend(state, Meanwhile("unlink", refused(state, got)))
    assert backend.release(taken(backend))
    assert got == ["refused"]
    backend.release(taken(backend))


class BeforeMoving(FileOps):
    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        if source.endswith(".jsonl.lock"):
            self._act()
        os.rename(source, target)


def test_nobody_of_ours_takes_a_lock_while_it_is_moved_aside(state: Path) -> None:
    path = lock(state, claim_of(gone_pid()))
    got: list[Any] = []
    backend = a_backend(state, BeforeMoving(refused(state, got)))
    judged = backend._inspector.look(
        StateDirectory(str(state)).place(KEY), to_take=False, stale_after=1.0
    )
    assert judged is not None
    assert backend.move_aside(judged) is not None
    assert got == ["refused"]
    assert not path.exists()


class LastBreath(FileOps):
    """Removes no lock file."""

    broken = True

    def unlink(self, path: str) -> None:  # type: ignore[override]
        if self.broken:
            raise OSError(5, "Input/output error")
        os.unlink(path)


def test_a_lock_that_cannot_be_removed_is_at_least_dead(state: Path) -> None:
    """Whoever comes next takes it, without waiting for this process to end."""
    files = LastBreath()
    with pytest.raises(turnlock.StoreError), a_store(state, files).turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    with a_store(state).turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("2"))
    assert_turns_are_whole(a_store(state))


def test_a_claim_that_is_left_for_what_it_owes_is_dead_at_once(state: Path) -> None:
    backend, other = a_backend(state), a_backend(state)
    owing = taken(backend)
    backend.leave_owing(owing)
    successor = taken(other, "next")
    assert [turn.turn_id for turn in successor.owed] == ["T"]


def test_what_was_stale_when_it_was_listed_and_is_held_by_now_is_left_alone(state: Path) -> None:
    backend, other = a_backend(state), a_backend(state)
    backend.leave_owing(taken(backend))
    (record,) = backend.locks()
    assert record.stale
    holder = taken(other, "next")
    assert backend.reclaim(record, TakeRequest(None, 2.0, header=False)) is None
    assert other.holds(holder)


def test_a_holder_of_whom_nobody_knows_whether_it_lives_is_not_revoked(state: Path) -> None:
    path = lock(state, b'{"pid": 1, "v": 2, "createdAt": "2026-01-01T00:00:00Z"}')
    before = path.read_bytes()
    with pytest.raises(turnlock.LockPathError):
        a_store(state).revoke("main/a")
    assert path.read_bytes() == before


def test_who_finds_a_session_busy_keeps_nothing_open(state: Path) -> None:
    backend, other = a_backend(state), a_backend(state)
    holder = taken(backend)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        found = other.take(KEY, TakeRequest("next", 60.0))
        assert isinstance(found, Holder)
        found.close()
    assert len(os.listdir("/proc/self/fd")) < before + 5
    assert backend.holds(holder)


class OfAnother(FileOps):
    """Every directory belongs to another user; notes to whom files are given."""

    def __init__(self) -> None:
        self.given: list[tuple[int, int]] = []

    def stat_path(self, path: str) -> os.stat_result:  # type: ignore[override]
        found = list(os.lstat(path))
        if os.path.isdir(path):
            found[4:6] = 4242, 4343
        return os.stat_result(found) if os.path.isdir(path) else os.lstat(path)

    def chown(self, handle: Handle, uid: int, gid: int) -> None:
        self.given.append((uid, gid))

    def chown_path(self, path: str, uid: int, gid: int) -> None:
        self.given.append((uid, gid))


def test_what_root_makes_belongs_to_whom_the_directory_belongs(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or an administrator's look with sudo would lock the owner out of the session."""
    (state / "agents/main/sessions").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    files = OfAnother()
    taken(a_backend(state, files))
    assert files.given == [(4242, 4343)] * 2, "the claim and the transcript"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_root_that_may_give_nothing_away_takes_sessions_all_the_same(
    state: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As in a container without CAP_CHOWN, or without such a user, on a volume of another user."""

    class Refused(OfAnother):
        def chown(self, handle: Handle, uid: int, gid: int) -> None:
            super().chown(handle, uid, gid)
            raise OSError(number, os.strerror(number))

        def chown_path(self, path: str, uid: int, gid: int) -> None:
            super().chown_path(path, uid, gid)
            raise OSError(number, os.strerror(number))

    state.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    files = Refused()
    taken(a_backend(state, files))
    assert len(files.given) == 5, "three directories, the claim and the transcript"
    copy = TornCopy(files, str(state / "agents/main/sessions/a.jsonl"))
    copy.keep([b"torn"])
    assert Path(copy.path).read_bytes()


def test_who_lost_its_claim_keeps_nothing_open(state: Path) -> None:
    """What its successor writes, or takes away, is the successor's."""
    backend = a_backend(state)
    lease = taken(backend)
    new = superseded(backend, lease)
    assert new is not None
    assert backend.release(lease) is False
    assert not backend._transcripts._idle
    assert backend.release(new) is True
    assert len(backend._transcripts._idle) == 1


FORKS = """
    import os
    import turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("parent"))
    child = os.fork()
    if child == 0:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("child"))
            (record,) = store.locks()
        print(record.pid == os.getpid(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("parent again"))
    print("done", flush=True)
"""


def test_a_forked_child_takes_the_sessions_of_its_parent_under_its_own_pid(state: Path) -> None:
    with child(FORKS, state) as process:
        process.expect("True")
        process.expect("done")
    texts = [kind for kind in kinds(a_store(state)) if kind.startswith("user")]
    assert texts == ["user:parent", "user:child", "user:parent again"]
