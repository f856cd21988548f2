"""The copy of torn bytes: two that keep at once, and very many lines of them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.clock import SystemClock
from turnlock.doctor.fragments import TornCopy

LOST = [b"one", b"two"]


class Meanwhile(FileOps):
    """Lets another doctor act when the copy was not found, once."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._acts = [act]

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        if flags & os.O_CREAT and self._acts:
            self._acts.pop()()
        return super().open(path, flags, mode)


def test_a_copy_that_another_doctor_made_first_is_added_to(tmp_path: Path) -> None:
    path = str(tmp_path / "a.jsonl")
    files = Meanwhile(lambda: TornCopy(FileOps(), path).keep(LOST[:1]))
    TornCopy(files, path).keep(LOST)
    assert Path(f"{path}.torn").read_bytes() == b"one\ntwo\n"


class Waited(SystemClock):
    """Whoever sleeps is told that so much time has passed; ``act`` is done meanwhile."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._slept = 0.0

    def monotonic(self) -> float:
        return self._slept

    def sleep(self, duration: float) -> None:  # type: ignore[override]
        self._slept += duration
        self._act()


def in_the_hands_of_another(path: str) -> int:
    """A descriptor of the copy as a doctor has it that makes it durable just now."""
    TornCopy(FileOps(), path).keep(LOST[:1])
    fd = os.open(f"{path}.torn", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_copy_that_another_doctor_writes_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "a.jsonl")
    fds = [in_the_hands_of_another(path)]

    def come_to_an_end() -> None:
        while fds:
            os.close(fds.pop())

    TornCopy(FileOps(), path, clock=Waited(come_to_an_end)).keep(LOST)
    assert Path(f"{path}.torn").read_bytes() == b"one\ntwo\n"


def test_a_copy_whose_writer_hangs_is_not_waited_for_without_end(tmp_path: Path) -> None:
    path = str(tmp_path / "a.jsonl")
    fd = in_the_hands_of_another(path)
    clock = Waited(lambda: None)
    with pytest.raises(BlockingIOError, match="another"):
        TornCopy(FileOps(), path, clock=clock).keep(LOST)
    os.close(fd)
    assert 5.0 < clock.monotonic() < 60.0
    assert Path(f"{path}.torn").read_bytes() == b"one\n"


def test_what_is_missing_of_very_many_lines_is_found_in_one_pass(tmp_path: Path) -> None:
    """With a pass for each line this would not end before the test's time-out."""
    path = tmp_path / "a.jsonl"
    lines = [b"damaged %d" % number for number in range(200_000)]
    Path(f"{path}.torn").write_bytes(b"\n".join(lines) + b"\ncut sho")
    copy = TornCopy(FileOps(), str(path))
    assert copy.missing([*lines, b"new", b"damaged", b"cut sho"]) == [
        b"new",
        b"damaged",
        b"cut sho",
    ]
