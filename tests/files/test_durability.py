"""What is acknowledged was made durable before, by the system and not only by our word for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import turnlock
from tests.files.test_faults import a_store
from turnlock.backends.files import StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.doctor.healing import Healer
from turnlock.session import parse_key


class Disk:
    """Of every file and directory, how large it was when the system last made it durable."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._synced: dict[tuple[int, int], int] = {}
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._noted(getattr(os, name)))

    def _noted(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            call(fd)
            status = os.fstat(fd)
            self._synced[status.st_dev, status.st_ino] = status.st_size

        return sync

    def has_all_of(self, status: os.stat_result) -> bool:
        return self._synced.get((status.st_dev, status.st_ino)) == status.st_size


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def transcript(state: Path) -> Path:
    return state / "agents/main/sessions/a.jsonl"


def test_every_acknowledgement_comes_after_the_disks(
    state: Path, disk: Disk, transcript: Path
) -> None:
    store = a_store(state)
    with store.turn("main/a") as turn:
        assert turn.epoch == 1
        assert disk.has_all_of(transcript.stat()), "a number that others are shown"
        for _ in range(3):
            turn.append(turnlock.user("1"), turnlock.assistant("2"))
            assert disk.has_all_of(transcript.stat())
    assert disk.has_all_of(transcript.stat()), "a turn's end"
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a"):
        store.revoke("main/a")
    assert disk.has_all_of(transcript.stat()), "an error marker"


def test_without_durability_nothing_waits_for_the_disk(
    state: Path, disk: Disk, transcript: Path
) -> None:
    with turnlock.open_store(state, durability="none").turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        assert not disk.has_all_of(transcript.stat())


class AtTheName(FileOps):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.durable: list[bool] = []

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        if path.endswith(".jsonl"):
            self.durable.append(self._disk.has_all_of(os.fstat(handle.fd)))
        super().link_unnamed(handle, path, proc)


def test_a_transcript_has_its_header_durable_before_it_has_its_name(
    state: Path, disk: Disk
) -> None:
    files = AtTheName(disk)
    with a_store(state, files).turn("main/a"):
        pass
    assert files.durable == [True]


class InTheMiddle(FileOps):
    """Lets another turn come while the first one makes the names of directories durable."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.act: Callable[[], None] | None = None
        self.synced: list[str] = []

    def fsync(self, handle: Handle) -> None:
        path = os.readlink(f"/proc/self/fd/{handle.fd}")
        act, self.act = (self.act, None) if path == self._path else (None, self.act)
        if act is not None:
            act()
        super().fsync(handle)
        self.synced.append(path)


def test_a_second_session_does_not_count_on_names_that_are_not_durable_yet(state: Path) -> None:
    files = InTheMiddle(state / "agents/main")
    store = a_store(state, files)
    seen: list[str] = []

    def another() -> None:
        with store.turn("main/b") as turn:
            turn.append(turnlock.user("1"))
            seen.extend(files.synced)

    with store.turn("main/a") as turn:
        files.act = another
        turn.append(turnlock.user("1"))
    above = [str(state / "agents"), str(state / "agents/main")]
    assert set(above) <= set(seen)


class AtTheRename(FileOps):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.durable: list[bool] = []

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        if target.endswith(".jsonl"):
            self.durable.append(self._disk.has_all_of(os.lstat(source)))
        os.rename(source, target)


def test_a_healed_copy_is_durable_before_it_takes_its_place(
    state: Path, disk: Disk, transcript: Path
) -> None:
    with a_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    with transcript.open("ab") as file:
        file.write(b"no entry\n")
    files = AtTheRename(disk)
    healed = Healer(StateDirectory(str(state)), parse_key("main/a"), files=files).heal(wait=0)
    assert healed.changes is not None
    assert files.durable == [True]
    assert healed.torn is not None
    assert disk.has_all_of(os.lstat(healed.torn)), "the bytes that are no entry"
    assert not transcript.with_name("a.jsonl.lock").exists()
