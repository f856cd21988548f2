"""What a turn writes, and in which pieces."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import turnlock
from tests.files.test_faults import a_store
from tests.files.test_protocol import a_dead_lock
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.backends.memory import MemoryBackend
from turnlock.store import Store
from turnlock.testing import ManualClock


class AsSeen(FileOps):
    """Of the transcript, what its last entry was after every write."""

    def __init__(self, transcript: Path) -> None:
        self._transcript = transcript
        self.last: list[str] = []

    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        written = super().write(handle, data)
        if os.readlink(f"/proc/self/fd/{handle.fd}") == str(self._transcript):
            entry = json.loads(self._transcript.read_bytes().splitlines()[-1])
            self.last.append(entry.get("customType") or entry["type"])
        return written


def test_a_turn_opens_with_its_first_entry_in_one_write(state: Path) -> None:
    """Whoever dies between two writes would leave a turn that says nothing."""
    files = AsSeen(state / "agents/main/sessions/a.jsonl")
    with a_store(state, files).turn("main/a") as turn:
        turn.append(turnlock.user("1"), turnlock.user("2"))
        turn.append(turnlock.user("3"))
    assert files.last == ["message", "message", "turnlock:end"]


def test_a_turn_that_wrote_nothing_and_died_is_opened_and_marked_in_one_write(state: Path) -> None:
    a_dead_lock(state)
    files = AsSeen(state / "agents/main/sessions/a.jsonl")
    store = a_store(state, files)
    with store.turn("main/a", wait=0):
        pass
    assert files.last == ["openclaw:prompt-error"]
    assert store.statistics().markers == 1


def test_nobody_knows_how_long_a_dead_turn_had_held(state: Path) -> None:
    """It was found some time after its holder had died."""
    a_dead_lock(state)
    store = a_store(state)
    with store.turn("main/a", wait=0):
        pass
    (marker,) = [entry["data"] for entry in store.read("main/a") if "reason" in entry["data"]]
    assert (marker["turnId"], marker["heldMs"]) == ("dead", None)


def test_the_last_entry_says_for_how_long_a_turn_held() -> None:
    clock = ManualClock()
    with Store(MemoryBackend(clock=clock, pid=1), location="test", clock=clock) as store:
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            clock.advance(2.5)
        with suppress(ValueError), store.turn("main/a"):
            clock.advance(1.25)
            raise ValueError
        last = [one for one in store.read("main/a") if "heldMs" in one.get("data", {})]
    assert [entry["data"]["heldMs"] for entry in last] == [2500, 1250]
