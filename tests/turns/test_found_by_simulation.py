"""What the simulation found, each as the shortest test that shows it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import turnlock
from turnlock.backends import TakeRequest
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.session import SessionKey
from turnlock.store import Store
from turnlock.turns import turn as turn_module
from turnlock.turns.turn import TurnCore

_KEY = SessionKey("main", "a")
_REVOKER = TakeRequest(None, 2.0, header=False)


def files_store(state: Path, files: FileOps | None = None) -> Store:
    return Store(FilesBackend(StateDirectory(str(state)), files=files), location=str(state))


def openings(store: Store) -> list[str]:
    custom = (entry for entry in store.read("main/a") if entry["type"] == "custom")
    return [e["data"]["turnId"] for e in custom if e["customType"] == "turnlock:turn"]


def test_two_first_appends_at_the_same_time_open_a_turn_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = TurnCore._make_writer
    both = threading.Barrier(2)

    def make_together(core: TurnCore) -> Any:
        both.wait(10)
        return make(core)

    with store.turn("main/a") as turn:
        monkeypatch.setattr(TurnCore, "_make_writer", make_together)
        threads = [
            threading.Thread(target=turn.append, args=[turnlock.user(text)]) for text in "xy"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert openings(store) == [turn.turn_id]


class TestCancellation:
    def test_ours_is_taken_back_from_a_block_that_made_another_error_of_it(
        self, store: Store
    ) -> None:
        async def main() -> int:
            task = asyncio.current_task()
            assert task is not None
            with pytest.raises(turnlock.LeaseRevoked):
                async with store.turn("main/a"):
                    asyncio.get_running_loop().run_in_executor(None, store.revoke, "main/a")
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        raise ValueError("the client's library wraps it") from None
            return task.cancelling()

        assert asyncio.run(main()) == 0

    def test_ours_is_taken_back_also_when_another_comes_while_the_turn_ends(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        marks, go_on = threading.Event(), threading.Event()
        append = store._backend.append

        def hang(*args: Any) -> None:
            marks.set()
            go_on.wait(10)
            append(*args)

        async def be_revoked() -> None:
            async with store.turn("main/a"):
                monkeypatch.setattr(store._backend, "append", hang)
                asyncio.get_running_loop().run_in_executor(None, store.revoke, "main/a")
                await asyncio.Event().wait()

        async def main() -> int:
            task = asyncio.create_task(be_revoked())
            await asyncio.to_thread(marks.wait, 10)
            # Told of its revocation, it waits for its marker; and now somebody else cancels it.
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            return task.cancelling()

        assert asyncio.run(main()) == 1


def test_who_has_left_a_turn_may_queue_again_although_its_revoker_hangs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_module, "HAND_OVER_TIMEOUT", 0.01)
    hangs, go_on = threading.Event(), threading.Event()
    supersede = store._backend.supersede

    def hang(*args: Any, **kwargs: Any) -> Any:
        hangs.set()
        go_on.wait()
        return supersede(*args, **kwargs)

    monkeypatch.setattr(store._backend, "supersede", hang)
    revoker = threading.Thread(target=store.revoke, args=["main/a"])
    try:
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            revoker.start()
            hangs.wait(10)
        with pytest.raises(turnlock.SessionBusy), store.turn("main/a", wait=0):
            pass
    finally:
        go_on.set()
        revoker.join()


def test_a_turn_that_wrote_nothing_is_told_that_another_process_took_its_session(
    files: FilesBackend, state: Path
) -> None:
    with files_store(state) as store:
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
            taken = files.supersede(_KEY, _REVOKER, lease=None, reason="operator")
        assert taken is not None
        files.release(taken)


class Interfering(FileOps):
    """Does something once, just before the transcript is opened."""

    def __init__(self) -> None:
        self.interfere: Callable[[], object] | None = None

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        interfere = self.interfere
        if path.endswith(".jsonl") and interfere is not None:
            self.interfere = None
            interfere()
        return super().open(path, flags, mode)


def test_a_turn_that_is_superseded_while_it_begins_does_not_begin_under_the_same_name_again(
    files: FilesBackend, state: Path
) -> None:
    interfering = Interfering()
    store = files_store(state, interfering)
    with store.turn("main/a"):
        pass
    # Without what it kept open between turns, or it had nothing to open.
    store = files_store(state, interfering)
    interfering.interfere = lambda: files.supersede(_KEY, _REVOKER, lease=None, reason="operator")
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", turn_id="T1"):
        pytest.fail("it began")


class Recording(FileOps):
    def __init__(self) -> None:
        self.paths: dict[int, str] = {}
        self.calls: list[str] = []

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        handle = super().open(path, flags, mode)
        self.paths[handle.fd] = path
        return handle

    def fsync(self, handle: Handle) -> None:
        self.calls.append(f"fsync {self.paths[handle.fd]}")
        super().fsync(handle)

    def write(self, handle: Handle, data: bytes | memoryview) -> int:
        self.calls.append(f"write {self.paths[handle.fd]}")
        return super().write(handle, data)


def test_whoever_writes_the_first_entry_makes_every_name_down_to_it_durable_first(
    files: FilesBackend, state: Path
) -> None:
    # Whoever made the transcript has died before it made its name durable.
    made = files.take(_KEY, TakeRequest("T0", 10.0))
    files.release(made)  # type: ignore[arg-type]
    recording = Recording()
    with files_store(state, recording).turn("main/a") as turn:
        turn.append(turnlock.user("x"))
    root = os.path.realpath(state)
    first_write = recording.calls.index(f"write {root}/agents/main/sessions/a.jsonl")
    synced = recording.calls[:first_write]
    above = ("/agents/main/sessions", "/agents/main", "/agents", "")
    for path in (*(root + one for one in above), os.path.dirname(root)):
        assert f"fsync {path}" in synced


def test_a_claim_that_is_back_after_a_power_cut_owes_nothing_for_a_turn_that_ended(
    state: Path,
) -> None:
    store = files_store(state)
    lock = state / "agents/main/sessions/a.jsonl.lock"
    kept = state / "kept"
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("x"))
        os.link(lock, kept)
    for name in ("T2", "T3"):
        with store.turn("main/a", turn_id=name) as turn:
            turn.append(turnlock.user("x"))
    del turn
    # With its lease goes the flock, as in a power cut.
    gc.collect()
    kept.rename(lock)
    with files_store(state).turn("main/a", turn_id="T4") as turn:
        turn.append(turnlock.user("x"))
    assert openings(store) == ["T1", "T2", "T3", "T4"]


class NoDescriptors(FileOps):
    def open_directory(self, path: str) -> Handle:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)


@pytest.mark.parametrize("listing", ["locks", "sessions", "clean_stale"])
def test_a_directory_that_cannot_be_listed_is_an_error_of_ours(listing: str, state: Path) -> None:
    store = files_store(state, NoDescriptors())
    with pytest.raises(turnlock.StoreError):
        list(getattr(store, listing)())
