"""Ids that a transcript has already are looked for by reading it, whatever becomes of the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_backend import append, line, taken
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.errors import StoreError


class Watched(FileOps):
    """Calls ``then`` after each look at an open file, and counts the bytes that are read."""

    def __init__(self) -> None:
        self.then: Callable[[Handle], None] = lambda handle: None
        self.read = 0

    def stat_handle(self, handle: Handle) -> os.stat_result:
        status = super().stat_handle(handle)
        self.then(handle)
        return status

    def read_at(self, handle: Handle, offset: int, length: int) -> bytes:
        data = super().read_at(handle, offset, length)
        self.read += len(data)
        self.then(handle)
        return data


@pytest.fixture
def files() -> Watched:
    return Watched()


@pytest.fixture
def backend(state: Path, files: Watched) -> FilesBackend:
    return FilesBackend(StateDirectory(str(state)), files=files)


def test_a_file_that_is_cut_while_ids_are_looked_for_ends_no_process(
    backend: FilesBackend, files: Watched
) -> None:
    """OpenClaw writes a transcript anew by truncating it; what is mapped is then a SIGBUS."""
    lease = taken(backend)
    append(backend, lease, *(line(f"{number}") for number in range(50)))
    files.then = lambda handle: os.truncate(handle.fd, 0)
    assert backend.known_ids(lease, {"wanted"}) == set()


def test_a_disk_that_cannot_be_read_is_an_error_of_the_store(
    backend: FilesBackend, files: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"))

    def broken(*_: Any) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "read_at", broken)
    with pytest.raises(StoreError, match="Input/output error"):
        backend.known_ids(lease, {"1"})
