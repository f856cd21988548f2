"""What a turn keeps of a run's items when its storage fails for a moment."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import turnlock
from turnlock.integrations.openai_agents.ledger import Ledger


def test_what_was_written_ahead_is_not_written_twice_after_a_failure(
    store: turnlock.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "seen"}
    with store.turn("main/a") as turn:
        core: Any = turn._core
        ledger = Ledger(core)
        ledger.add_ahead([call])
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
            patch.setattr(type(core), "append", full)
            ledger.add([call, result])
        ledger.add([call, result])
        assert [item["type"] for item in ledger.read(None)] == [call["type"], result["type"]]
