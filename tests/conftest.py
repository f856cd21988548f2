"""Fixtures: the backends that have to keep the same promises, and stores on them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postgres.fixtures import TestDatabase, postgres, postgres_server
from turnlock.backends import Backend
from turnlock.backends.files import FilesBackend, StateDirectory, portable
from turnlock.backends.memory import MemoryBackend
from turnlock.clock import Clock
from turnlock.store import Store

# A shell ignores SIGINT for what it starts in the background, nohup ignores SIGHUP, and children
# inherit that; a test of either has to mean the same there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

__all__ = ["postgres", "postgres_server"]  # fixtures of every test

MakeBackend = Callable[..., Backend[Any]]


@pytest.fixture(
    params=["files", "portable", "memory", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def make_backend(request: pytest.FixtureRequest, tmp_path: Path) -> MakeBackend:
    """Makes backends of one kind; all of one test see the same sessions, but for ``memory``."""

    if request.param == "postgres":
        database: TestDatabase = request.getfixturevalue("postgres")
        return lambda clock=None: database.following(clock) if clock else database.backend()

    def make(clock: Clock | None = None) -> Backend[Any]:
        if request.param == "memory":
            return MemoryBackend(clock=clock, pid=os.getpid())
        platform = portable() if request.param == "portable" else None
        return FilesBackend(StateDirectory(str(tmp_path / "state")), clock=clock, platform=platform)

    return make


@pytest.fixture
def backend(make_backend: MakeBackend) -> Backend[Any]:
    return make_backend()


@pytest.fixture
def store(backend: Backend[Any]) -> Iterator[Store]:
    with Store(backend, location="test") as store:
        yield store


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def files(state: Path) -> FilesBackend:
    return FilesBackend(StateDirectory(str(state)))
