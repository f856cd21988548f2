"""A plug-in without what it plugs into says what to install."""

from __future__ import annotations

import importlib
import sys

import pytest


def test_openai_agents_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agents", None)
    monkeypatch.delitem(sys.modules, "turnlock.integrations.openai_agents", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'turnlock\[openai-agents\]'"):
        importlib.import_module("turnlock.integrations.openai_agents")
