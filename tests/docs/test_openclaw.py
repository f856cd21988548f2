"""The page on moving from OpenClaw: its program brings every conversation along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import turnlock
from tests.docs.pages import ROOT, blocks
from turnlock.gateway.conversation import session_of

PAGE = ROOT / "docs/howto/from-openclaw.md"
SAMPLES = ROOT / "tests/samples/openclaw-2026.6.11"


def test_what_openclaws_clients_name_is_the_conversation_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / ".openclaw/agents/main/sessions"
    old.mkdir(parents=True)
    named = {
        "agent:main:main": {"sessionId": "id-1"},
        "agent:main:x:topic:7": {"sessionId": "id-2", "sessionFile": "/gone/id-2-topic.jsonl"},
    }
    (old / "sessions.json").write_text(json.dumps(named))
    shutil.copy(SAMPLES / "transcript-ok.jsonl", old / "id-1.jsonl")
    shutil.copy(SAMPLES / "transcript-429.jsonl", old / "id-2-topic.jsonl")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OPENCLAW_STATE_DIR", raising=False)
    monkeypatch.setenv("TURNLOCK_STATE_DIR", str(tmp_path / "state"))
    (program,) = blocks("python", PAGE)
    exec(program.text, {})
    with turnlock.open_store() as store:
        for key, sample in (("agent:main:main", "ok"), ("agent:main:x:topic:7", "429")):
            original = (SAMPLES / f"transcript-{sample}.jsonl").read_text().splitlines()
            lines = store.read_lines(str(session_of(key, "main")))
            assert [line.raw.decode() for line in lines] == original
        with store.turn(str(session_of("agent:main:main", "main"))) as turn:
            turn.append(turnlock.user("where were we?"))
            assert len(turn.messages()) > 1
    exec(program.text, {})
    with turnlock.open_store() as store:
        assert "where were we?" in str(list(store.read("main/agent:main:main")))
