"""Start-up clean-up and doctor over many sessions."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial

import turnlock
from turnlock.doctor.examine import examine

from ..contenders import a_path
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.ours import TURN

# One lock of so many is a dead holder's.
_DEAD_EVERY = 100
_END_BYTES = 4096
_ROUNDS_MAX = 3
# A round over so many sessions takes so long that one is enough.
_MANY = 50_000


class Sweep:
    name = "sweep"
    title = "Start-up clean-up and doctor"
    what = "How long a gateway's start-up clean-up, and a doctor's look, take over many sessions."
    how = (
        "A state directory with that many transcripts of one turn each, and one in a hundred with"
        " the lock of a dead holder. Clean-up removes those and writes what they owe; doctor looks"
        " at every transcript and lock. The files were used before, so the disk is not in it."
    )
    floor = (
        "A scan: every name listed, and the end of every transcript and every lock opened and read."
    )
    reading = (
        "Clean-up lists the directory and opens locks alone, so it costs less than the scan. Doctor"
        " opens and parses every transcript; what it does beyond the scan is to understand them."
    )

    def run(self, bench: Bench) -> Result:
        cells: dict[str, dict[str, Spread]] = {}
        columns = []
        for size in bench.scale.sessions:
            title = f"{size:,} sessions"
            columns.append(Column(title, "s"))
            root = a_path(bench.directory, TURN, name=f"sweep-{size}")
            bench.say(f"making {size:,} sessions")
            planted = Planted(root, size)
            jobs: dict[str, Callable[[], list[float]]] = {
                "scan": partial(planted.timed, _scan),
                "turnlock start-up clean-up": partial(planted.timed, _clean_up),
                "turnlock doctor": partial(planted.timed, _examine),
            }
            rounds = 1 if size >= _MANY else min(bench.scale.rounds, _ROUNDS_MAX)
            for label, seconds in in_rounds(rounds, jobs).items():
                cells.setdefault(label, {})[title] = Spread.of(seconds)
            shutil.rmtree(root)
        rows = [
            Row(label, Kind.OURS if label.startswith("turnlock") else Kind.FLOOR, spreads)
            for label, spreads in cells.items()
        ]
        return result_of(self, columns, rows)


class Planted:
    """A state directory with many sessions, some of them with a dead lock."""

    def __init__(self, root: str, size: int) -> None:
        self._root = root
        store = turnlock.open_store(root, durability="none")
        with store.turn("main/model") as turn:
            turn.append(turnlock.user("x" * 120))
        transcript = _read(f"{_directory(root)}/model.jsonl")
        # Of a turn that the transcript does not know, so that its marker is owed.
        with store.turn("main/model"):
            self._claim = _read(_lock(root, "model"))
        for number in range(size - 1):
            _write(f"{_directory(root)}/s{number}.jsonl", transcript)
        self._dead = [_lock(root, f"s{number}") for number in range(0, size - 1, _DEAD_EVERY)]

    def timed(self, job: Callable[[str], None]) -> list[float]:
        for lock in self._dead:
            _write(lock, self._claim)
        started = time.perf_counter()
        job(self._root)
        return [time.perf_counter() - started]


def _scan(root: str) -> None:
    for entry in os.scandir(_directory(root)):
        with open(entry.path, "rb", buffering=0) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES))
            file.read(_END_BYTES)


def _clean_up(root: str) -> None:
    with turnlock.open_store(root) as store:
        cleaned = store.clean_stale()
    assert all(lock.removed for lock in cleaned)


def _examine(root: str) -> None:
    examine(root)


def _directory(root: str) -> str:
    return f"{root}/agents/main/sessions"


def _lock(root: str, name: str) -> str:
    return f"{_directory(root)}/{name}.jsonl.lock"


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, content)
    os.close(fd)
