"""A claim that another program wrote over: its holder lives, and keeps the session."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import gone_pid
from tests.files.test_faults import assert_turns_are_whole
from tests.helpers import holder
from turnlock.backends import Holder, TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.doctor.examine import examine
from turnlock.session import SessionKey
from turnlock.store import Store

KEY = SessionKey("main", "a")
CONTENTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no JSON": lambda: b"x\n",
    "another's, that is gone": lambda: json.dumps({"pid": gone_pid()}).encode(),
    "another's, that names a turn": lambda: json.dumps(
        {"pid": gone_pid(), "supersedes": [{"turnId": "T9", "pid": 1}]}
    ).encode(),
}


@pytest.fixture(params=CONTENTS)
def content(request: pytest.FixtureRequest) -> bytes:
    return CONTENTS[request.param]()


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    with turnlock.open_store(state, durability="none") as store:
        yield store


def lock_of(state: Path) -> Path:
    return state / "agents/main/sessions/a.jsonl.lock"


def write_over(state: Path, content: bytes) -> None:
    """In place, and an hour ago."""
    lock_of(state).write_bytes(content)
    os.utime(lock_of(state), (lock_of(state).stat().st_mtime - 3600,) * 2)


def test_doctor_and_clean_up_leave_the_session_to_a_holder_that_lives(
    store: Store, state: Path, content: bytes
) -> None:
    """G8. The kernel says that somebody holds the claim, whatever stands in it."""
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        write_over(state, content)
        other = turnlock.open_store(state)
        (record,) = other.clean_stale()
        assert (record.stale, record.removed, record.reasons) == (False, False, ("flock-held",))
        found = examine(str(state), fix=True).findings
        assert [one.check for one in found if one.path == str(lock_of(state))] == ["unknown-holder"]
        turn.append(turnlock.user("2"))
    assert not lock_of(state).exists()
    assert_turns_are_whole(store)


def test_who_takes_it_all_the_same_fences_its_holder(
    store: Store, state: Path, content: bytes
) -> None:
    """The flock may be that of a taker that was stopped: takers do not wait for it."""
    elsewhere = FilesBackend(StateDirectory(str(state)))
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        write_over(state, content)
        lease = elsewhere.take(KEY, TakeRequest(None, 10.0, header=False))
        assert not isinstance(lease, Holder)
        elsewhere.release(lease)
        turn.append(turnlock.user("2"))
    texts = [one["message"]["content"] for one in store.read("main/a") if "message" in one]
    assert "2" not in str(texts)


@pytest.mark.parametrize("writes", [True, False])
def test_its_own_process_revokes_it_all_the_same(
    store: Store, state: Path, content: bytes, *, writes: bool
) -> None:
    """Its watchdog knows the inode for its own and needs no verdict; it owes for no other."""
    with pytest.raises(turnlock.LeaseRevoked) as caught, store.turn("main/a", turn_id="T1") as turn:
        if writes:
            turn.append(turnlock.user("1"))
        lock_of(state).write_bytes(content)
        assert store.revoke("main/a", "hold-limit")
    assert caught.value.reason == "hold-limit"
    marked = [e["data"] for e in store.read("main/a") if "reason" in e.get("data", {})]
    assert [(one["turnId"], one["reason"]) for one in marked] == [("T1", "hold-limit")]
    assert not lock_of(state).exists()


def test_it_is_free_when_its_holder_is_gone(store: Store, state: Path) -> None:
    with holder(state) as process:
        write_over(state, b"")
        (record,) = store.clean_stale()
        assert not record.removed
        process.kill()
        (record,) = store.clean_stale()
    assert (record.removed, record.reasons) == (True, ("unreadable",))
