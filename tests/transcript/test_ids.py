"""Ids that a transcript has already, where no file is."""

from __future__ import annotations

from typing import Any

import pytest

from turnlock import open_store
from turnlock.backends import memory


def test_in_memory_an_append_with_ids_of_its_own_reads_what_was_written_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the tests of those who embed us cost what the square of a session's length is."""
    read = 0

    def counted(content: bytes) -> Any:
        def read_at(offset: int, length: int) -> bytes:
            nonlocal read
            found = content[offset : offset + length]
            read += len(found)
            return found

        return read_at

    with open_store("memory:") as store, store.turn("main/s1") as turn:
        message = {"role": "user", "content": "x" * 200}
        for number in range(200):
            turn.append({"type": "message", "id": f"own-{number}", "message": message})
        monkeypatch.setattr(memory, "_reader", counted)
        for _ in range(10):
            assert turn.append({"type": "message", "id": "own-7", "message": message}) == ["own-7"]
        size = next(store.sessions()).size
        assert 0 < read < 3 * size
        # And the opening.
        assert len(list(store.read("main/s1"))) == 201
