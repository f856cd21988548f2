"""Ids that a transcript has already are looked for by reading it, once, whatever becomes of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_backend import append, line, taken
from turnlock.backends import TailMoved
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.errors import StoreError
from turnlock.transcript.tail import Tail


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


def test_an_append_with_ids_of_its_own_reads_what_was_written_since(
    backend: FilesBackend, files: Watched
) -> None:
    """Otherwise a session's appends cost what the square of its length is."""
    lease = taken(backend)
    append(backend, lease, *(line(f"{number}") for number in range(1000)))
    assert backend.known_ids(lease, {"7", "x"}) == {"7"}
    append(backend, lease, line("x"))
    before = files.read
    assert backend.known_ids(lease, {"7", "x", "y"}) == {"7", "x"}
    backend.release(lease)
    lease = taken(backend)
    append(backend, lease, line("y"))
    for _ in range(10):
        assert backend.known_ids(lease, {"7", "y", "z"}) == {"7", "y"}
    assert files.read - before < backend.content(lease)[1] / 4


def test_what_another_program_wrote_meanwhile_is_found(backend: FilesBackend, state: Path) -> None:
    lease = taken(backend)
    append(backend, lease, line("1"), line("2"))
    assert backend.known_ids(lease, {"1", "2", "x"}) == {"1", "2"}
    transcript = next(state.rglob("*.jsonl"))
    transcript.write_bytes(line("x") * 9)
    with pytest.raises(TailMoved):
        append(backend, lease, line("3"))
    assert backend.known_ids(lease, {"1", "2", "x"}) == {"x"}
    transcript.write_bytes(line("2"))
    assert backend.known_ids(lease, {"1", "2", "x"}) == {"2"}


def test_an_id_is_found_where_two_blocks_meet(
    backend: FilesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnlock.transcript.ids._BLOCK_BYTES", 7)
    lease = taken(backend)
    append(backend, lease, *(line(f"{number}") for number in range(20)))
    wanted = {f"{number}" for number in range(40)}
    assert backend.known_ids(lease, wanted) == {f"{number}" for number in range(20)}


@pytest.mark.parametrize("written", [b'"id" : "x"', b'"id":\t"x"', b'"id": "x"'])
def test_an_id_is_known_whatever_blanks_are_before_it(
    backend: FilesBackend, written: bytes
) -> None:
    lease = taken(backend)
    backend.append(lease, [b'{"type":"message",' + written + b"}\n"], Tail())
    assert backend.known_ids(lease, {"x", "y"}) == {"x"}
