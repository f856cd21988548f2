"""Files that OpenClaw wrote are read, judged and continued."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import turnlock
from turnlock.backends.files.process import LinuxProcesses
from turnlock.doctor.examine import examine
from turnlock.store import Store

SAMPLES = Path(__file__).parent.parent / "samples"
TRANSCRIPTS = sorted(SAMPLES.glob("*/transcript-*.jsonl"))


@pytest.fixture
def directory(state: Path) -> Path:
    directory = state / "agents/main/sessions"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def store(state: Path) -> Store:
    return turnlock.open_store(state)


@pytest.fixture
def alive() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def start_time(pid: int) -> int | None:
    return LinuxProcesses().look_up(pid).start_time


@pytest.mark.parametrize("sample", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_transcript_is_read_and_continued(store: Store, directory: Path, sample: Path) -> None:
    before = sample.read_bytes()
    transcript = directory / "a.jsonl"
    transcript.write_bytes(before)
    old = list(store.read("main/a"))
    assert len(old) == before.count(b"\n") - 1
    with store.turn("main/a") as turn:
        history = turn.messages()
        turn.append(turnlock.user("and now?"))
    assert transcript.read_bytes().startswith(before)
    new = list(store.read("main/a"))[len(old) :]
    assert new[0]["parentId"] == old[-1]["id"]
    assert [entry["epoch"] for entry in new] == [1, 1, 1]
    assert all(message["content"] for message in history)
    assert not any("prompt-error" in json.dumps(message) for message in history)


def test_the_active_branch_is_the_one_that_openclaw_would_show(
    store: Store, directory: Path
) -> None:
    shutil.copy(
        SAMPLES / "openclaw-2026.2.17/transcript-hold-watchdog.jsonl", directory / "a.jsonl"
    )
    with store.turn("main/a") as turn:
        texts = [message["content"] for message in turn.messages()]
    assert "partial answer then fake reply 2" in texts
    assert "fake reply 3" not in texts, "that turn is on the branch that the zombie cut off"


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*/lock-*.lock")), ids=lambda p: p.name)
def test_its_locks_are_stale_once_their_process_is_gone(
    store: Store, directory: Path, sample: Path
) -> None:
    text = sample.read_text()
    lock = directory / "a.jsonl.lock"
    lock.write_text(text.replace(str(json.loads(text)["pid"]), "2147483646"))
    (record,) = store.clean_stale()
    assert (record.reasons, record.removed) == (("dead-pid",), True)
    assert os.listdir(directory) == []


def plant(directory: Path, name: str = "a", **fields: object) -> Path:
    lock = directory / f"{name}.jsonl.lock"
    lock.write_text(json.dumps({"createdAt": "2026-01-01T00:00:00.000Z"} | fields, indent=2))
    return lock


def test_a_live_owner_is_kept_at_any_age(store: Store, directory: Path, alive: int) -> None:
    plant(directory, pid=alive, starttime=start_time(alive), maxHoldMs=300_000)
    (record,) = store.clean_stale()
    assert (record.stale, record.reasons, record.pid_status) == (False, ("over-limit",), "alive")
    with pytest.raises(turnlock.SessionBusy) as caught, store.turn("main/a", wait=0):
        pass
    assert caught.value.holder_pid == alive


def test_a_live_owner_is_not_robbed_within_its_limit(
    store: Store, directory: Path, alive: int
) -> None:
    lock = plant(directory, pid=alive, starttime=start_time(alive), maxHoldMs=10**12)
    with pytest.raises(turnlock.LockPathError) as caught:
        store.revoke("main/a")
    assert str(alive) in str(caught.value)
    assert lock.exists()
    plant(directory, pid=alive, starttime=start_time(alive), maxHoldMs=1)
    assert store.revoke("main/a")
    assert not lock.exists()


def test_a_recycled_pid_is_not_the_owner(store: Store, directory: Path, alive: int) -> None:
    plant(directory, pid=alive, starttime=1, maxHoldMs=300_000)
    with store.turn("main/a", wait=0):
        pass


def test_an_owner_without_start_time_is_believed_for_a_while(
    store: Store, directory: Path, alive: int
) -> None:
    lock = plant(directory, pid=alive)
    assert [record.reasons for record in store.locks()] == [("too-old",)]
    assert [record.stale for record in store.clean_stale(stale_after=1e9)] == [False]
    assert lock.exists()


def test_a_time_to_come_is_no_age(store: Store, directory: Path, alive: int) -> None:
    plant(directory, pid=alive, createdAt="2126-01-01T00:00:00.000Z")
    (record,) = store.clean_stale()
    assert not record.stale
    assert record.age_seconds is not None
    assert record.age_seconds < 60


def cut_off(directory: Path) -> Path:
    """A transcript that ends with a user's message, as OpenClaw leaves one when it is killed."""
    sample = SAMPLES / "openclaw-2026.6.11/transcript-ok.jsonl"
    lines = sample.read_bytes().splitlines(keepends=True)
    transcript = directory / "a.jsonl"
    transcript.write_bytes(b"".join(lines[:-1]))
    return transcript


def test_a_turn_that_openclaw_left_in_the_middle_is_marked(store: Store, directory: Path) -> None:
    cut_off(directory)
    plant(directory, pid=2147483646)
    store.clean_stale()
    opening, marker = list(store.read("main/a"))[-2:]
    assert (opening["epoch"], marker["epoch"]) == (1, 1)
    assert marker["data"]["reason"] == "interrupted"
    assert opening["data"]["turnId"] == marker["data"]["turnId"] == "foreign-pid-2147483646"


def test_a_turn_that_openclaw_ended_is_not(store: Store, directory: Path) -> None:
    sample = SAMPLES / "openclaw-2026.6.11/transcript-ok.jsonl"
    shutil.copy(sample, directory / "a.jsonl")
    plant(directory, pid=2147483646)
    store.clean_stale()
    assert (directory / "a.jsonl").read_bytes() == sample.read_bytes()


def test_a_session_named_as_what_openclaw_keeps_beside_its_transcripts_is_listed(
    state: Path,
) -> None:
    """What is legal as a key is in every list, or export, prune and doctor would pass it by."""
    with turnlock.open_store(state) as store:
        for name in ("main/run", "main/run.trajectory"):
            with store.turn(name) as turn:
                turn.append(turnlock.user("1"))
        sessions = state / "agents/main/sessions"
        (sessions / "a.trajectory.jsonl").write_text('{"type":"session.started"}\n')
        (sessions / "b.trajectory.jsonl").touch()
        (sessions / "c.trajectory.jsonl").symlink_to(sessions / "run.jsonl")
        assert [one.session for one in store.sessions()] == ["main/run", "main/run.trajectory"]
        assert [one.session for one in store.sessions(after="main/run")] == ["main/run.trajectory"]
    with (sessions / "run.trajectory.jsonl").open("ab") as file:
        file.write(b'{"torn')
    assert "torn-tail" in [one.check for one in examine(str(state)).findings]
