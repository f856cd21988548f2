"""The lock file as people and OpenClaw's tools see it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import turnlock
from tests.doctor.planting import gone_pid, lock
from turnlock.backends.files import FilesBackend, StateDirectory, portable
from turnlock.backends.files.claim import CLAIM_BYTES_MAX
from turnlock.backends.files.fileops import FileOps
from turnlock.store import Store


@pytest.fixture(params=["native", "portable"])
def store(request: pytest.FixtureRequest, state: Path) -> Store:
    platform = portable() if request.param == "portable" else None
    return Store(FilesBackend(StateDirectory(str(state)), platform=platform), location="test")


def test_the_claim_says_who_holds(store: Store, state: Path) -> None:
    lock = state / "agents/main/sessions/a.jsonl.lock"
    with store.turn("main/a", max_hold=42.0, turn_id="T1"):
        text = lock.read_text()
    assert text.startswith('{\n  "pid": ')
    assert text.endswith("}\n")
    claim = json.loads(text)
    assert claim["pid"] == os.getpid()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", claim["createdAt"])
    assert (claim["v"], claim["turnId"], claim["session"]) == (1, "T1", "main/a")
    assert (claim["maxHoldMs"], claim["supersedes"]) == (42_000, [])
    assert set(claim) == {
        *("pid", "createdAt", "starttime", "maxHoldMs", "v", "turnId", "session", "host"),
        *("bootId", "pidNamespace", "monotonic", "program", "supersedes", "opening"),
    }


def test_a_hostile_turn_id_stays_text(store: Store, state: Path) -> None:
    lock = state / "agents/main/sessions/a.jsonl.lock"
    hostile = 'x", "pid": 1,\n"é\u2028\x1b'
    with store.turn("main/a", turn_id=hostile):
        assert json.loads(lock.read_text())["turnId"] == hostile


def test_release_leaves_nothing_but_the_transcript(store: Store, state: Path) -> None:
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    assert os.listdir(state / "agents/main/sessions") == ["a.jsonl"]


class MadeMeanwhile(FileOps):
    """Another program makes the transcript in the moment before we give ours its name."""

    def link(self, source: str, target: str) -> None:
        if target.endswith(".jsonl"):
            Path(target).touch()
        super().link(source, target)


def test_a_transcript_that_another_program_makes_first_leaves_none_of_ours(state: Path) -> None:
    layout = StateDirectory(str(state))
    store = Store(FilesBackend(layout, files=MadeMeanwhile(), platform=portable()), location="test")
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    assert os.listdir(state / "agents/main/sessions") == ["a.jsonl"]


def test_a_supersession_leaves_nothing_either(store: Store, state: Path) -> None:
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
        store.revoke("main/a")
    assert os.listdir(state / "agents/main/sessions") == ["a.jsonl"]


def test_a_lock_file_removed_by_hand_ends_the_lease(store: Store, state: Path) -> None:
    with pytest.raises(turnlock.LeaseRevoked) as caught, store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("1"))
        (state / "agents/main/sessions/a.jsonl.lock").unlink()
        turn.append(turnlock.user("late"))
    assert caught.value.reason == "superseded"
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("2"))
    found = list(store.read("main/a"))
    assert [entry["epoch"] for entry in found] == [1, 1, 1, 2, 2, 2]
    assert found[2]["data"]["reason"] == "interrupted"
    assert found[2]["data"]["turnId"] == "T1"


def test_a_block_that_wrote_nothing_is_told_so_too(store: Store, state: Path) -> None:
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
        (state / "agents/main/sessions/a.jsonl.lock").unlink()
    with (
        pytest.raises(turnlock.LeaseRevoked),
        turnlock.SessionLock(state / "agents/main/sessions/a.jsonl") as lock,
    ):
        os.unlink(f"{lock.path}.lock")


def test_a_holder_of_another_store_of_this_process_is_told_at_once(
    store: Store, state: Path
) -> None:
    with pytest.raises(turnlock.LeaseRevoked) as caught, store.turn("main/a") as turn:
        assert turnlock.open_store(state).revoke("main/a")
        assert turn.revoked
    assert caught.value.reason == "operator"


def test_stores_share_one_waker(state: Path) -> None:
    first, second = (FilesBackend(StateDirectory(str(state))) for _ in range(2))
    assert first._platform.waker is second._platform.waker


def test_a_claim_that_says_too_much_is_superseded_by_one_that_can_be_read(
    store: Store, state: Path
) -> None:
    """Escaped, each character of these is three times as long: its claim must not be too long."""
    owed = [{"turnId": "\U0001f600" * 200, "pid": 1, "reason": "\U0001f600" * 200}] * 32
    said = {"pid": gone_pid(), "supersedes": owed}
    lock(state, json.dumps(said, ensure_ascii=False).encode())
    with store.turn("main/a", turn_id="T1") as turn:
        path = state / "agents/main/sessions/a.jsonl.lock"
        assert path.stat().st_size <= CLAIM_BYTES_MAX
        (record,) = store.locks()
        assert (record.turn_id, record.stale) == ("T1", False)
        turn.append(turnlock.user("1"))


@pytest.mark.parametrize("path", ["a\0b", "\0"])
def test_a_path_with_a_nul_is_refused(path: str) -> None:
    for make in (turnlock.open_store, turnlock.SessionLock):
        with pytest.raises(turnlock.StoreError):
            make(path)


def test_a_transcript_removed_under_a_turn_stays_removed(store: Store, state: Path) -> None:
    transcript = state / "agents/main/sessions/a.jsonl"
    with pytest.raises(turnlock.TranscriptError), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        transcript.unlink()
        turn.append(turnlock.user("2"))
    assert os.listdir(transcript.parent) == []


def test_an_identical_inode_number_does_not_bring_a_lease_back(store: Store, state: Path) -> None:
    lock = state / "agents/main/sessions/a.jsonl.lock"
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a") as turn:
        number = lock.stat().st_ino
        store.revoke("main/a")
        for _ in range(50):
            lock.write_text("{}")
            assert lock.stat().st_ino != number
            lock.unlink()
        turn.append(turnlock.user("late"))
