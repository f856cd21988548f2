"""What the documentation has to mention: settings, exit codes, findings, events, commands."""

from __future__ import annotations

from pathlib import Path

import pytest

import turnlock
from turnlock import events
from turnlock.cli.commands import COMMANDS
from turnlock.cli.exits import ExitCode
from turnlock.config import AgentSettings, GatewaySettings, ModelSettings
from turnlock.doctor.findings import KINDS
from turnlock.limits import LIMIT_NAMES
from turnlock.practice import Mode
from turnlock.transcript.entries import REASONS

ROOT = Path(turnlock.__file__).parent.parent.parent
PYTHON = (ROOT / "docs/reference/python.md").read_text()
CLI = (ROOT / "docs/reference/cli.md").read_text()
GATEWAY = (ROOT / "docs/reference/gateway.md").read_text()
PRACTICE = (ROOT / "docs/reference/practice-model.md").read_text()


@pytest.mark.parametrize("name", [name for name in turnlock.__all__ if name != "__version__"])
def test_every_public_name_is_documented(name: str) -> None:
    assert name in PYTHON


@pytest.mark.parametrize("event", events.Event.__args__, ids=lambda event: event.__name__)
def test_every_event_is_documented(event: type) -> None:
    assert event.__name__ in PYTHON


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_documented(reason: str) -> None:
    assert f"`{reason}`" in PYTHON


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert f"`{command}" in CLI


def test_every_exit_code_is_documented() -> None:
    for code in ExitCode:
        assert str(int(code)) in CLI, code


@pytest.mark.parametrize("kind", KINDS)
def test_every_finding_is_documented_as_it_is(kind: str) -> None:
    fixed = "yes" if KINDS[kind].fixable else ""
    assert f"| `{kind}` | {KINDS[kind].severity} | {KINDS[kind].meaning} | {fixed} |" in CLI


@pytest.mark.parametrize(
    "setting",
    [
        *GatewaySettings._fields,
        *LIMIT_NAMES,
        *ModelSettings._fields,
        *AgentSettings._fields,
    ],
)
def test_every_setting_is_documented(setting: str) -> None:
    assert f"\n{setting} = " in GATEWAY


@pytest.mark.parametrize("mode", list(Mode))
def test_every_practice_mode_is_documented(mode: Mode) -> None:
    assert mode.value in ("", "ok", "reply", "normal") or f"/{mode.value}" in PRACTICE


def test_every_link_between_pages_leads_somewhere() -> None:
    import re

    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
