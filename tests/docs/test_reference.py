"""The reference is what the code says."""

from __future__ import annotations

import tomllib

import turnlock
from tests.docs.pages import ROOT, blocks
from tests.helpers import load
from turnlock.config import GatewaySettings
from turnlock.limits import LIMIT_NAMES


def test_the_written_pages_are_up_to_date() -> None:
    for path, text in load(ROOT / "scripts/reference.py").pages().items():
        assert path.read_text() == text, f"{path.name} is out of date: make reference"


def test_the_defaults_in_the_configuration_page_are_those_of_the_code() -> None:
    page = ROOT / "docs/reference/gateway.md"
    tables = next(
        found for block in blocks("toml", page) if "limits" in (found := tomllib.loads(block.text))
    )
    limits = turnlock.Limits()
    assert tables["limits"] == {name: getattr(limits, name) for name in LIMIT_NAMES}
    shown = {name: tuple(v) if isinstance(v, list) else v for name, v in tables["gateway"].items()}
    assert shown == GatewaySettings()._asdict()
