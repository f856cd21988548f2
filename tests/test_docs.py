"""What the documentation has to mention: settings, exit codes, findings, events, commands."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import turnlock
from turnlock import events
from turnlock.cli.commands import COMMANDS
from turnlock.cli.exits import ExitCode
from turnlock.config import PROVIDERS, AgentSettings, GatewaySettings, ModelSettings
from turnlock.doctor.condition import Condition
from turnlock.doctor.findings import KINDS
from turnlock.limits import LIMIT_NAMES
from turnlock.practice import Mode
from turnlock.transcript.entries import REASONS

ROOT = Path(turnlock.__file__).parent.parent.parent
PYTHON = (ROOT / "docs/reference/python.md").read_text()
CLI = (ROOT / "docs/reference/cli.md").read_text()
GATEWAY = (ROOT / "docs/reference/gateway.md").read_text()
PRACTICE = (ROOT / "docs/reference/practice-model.md").read_text()


def rows(page: str) -> list[str]:
    """The lines of the page's tables."""
    return [line for line in page.splitlines() if line.startswith("| ")]


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
    assert any(f"`{command} " in row or f"`{command}`" in row for row in rows(CLI))


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_has_its_row(code: ExitCode) -> None:
    by_signal = [row for row in rows(CLI) if row.startswith("| 128+n |")]
    cells = [*by_signal, *(row.split("|")[1] for row in rows(CLI))]
    assert any(re.search(rf"\b{int(code)}\b", cell) for cell in cells)


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


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_its_row(provider: str) -> None:
    assert any(f"`{provider}`" in row.split("|")[1] for row in rows(GATEWAY))


@pytest.mark.parametrize("condition", [one for one in Condition if one is not Condition.SILENT])
def test_every_condition_of_a_first_gateway_has_its_row(condition: Condition) -> None:
    """It is silent only to a request, which a second one does not make."""
    assert any(row.startswith(f"| `{condition.value}` |") for row in rows(GATEWAY))


@pytest.mark.parametrize("mode", list(Mode))
def test_every_practice_mode_is_documented(mode: Mode) -> None:
    assert mode.value in ("", "ok", "reply", "normal") or f"/{mode.value}" in PRACTICE


PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "model/README.md")),
    *ROOT.glob("docs/**/*.md"),
]
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")


def links(page: Path) -> list[tuple[Path, str]]:
    """The page's links within the repository: the file, and the heading in it or nothing."""
    found = LINK.findall(page.read_text())
    return [
        ((page.parent / target).resolve() if target else page, heading)
        for target, heading in found
        if "://" not in target
    ]


def headings(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), f"{page.name}: {target}"
        if heading:
            assert heading in headings(target), f"{page.name}: {target.name}#{heading}"


def test_every_page_can_be_come_by_from_the_index() -> None:
    seen = {ROOT / "docs/README.md"}
    waiting = list(seen)
    while waiting:
        for target, _ in links(waiting.pop()):
            if target.suffix == ".md" and target not in seen:
                seen.add(target)
                waiting.append(target)
    assert set(ROOT.glob("docs/**/*.md")) <= seen


@pytest.mark.parametrize("picture", [*ROOT.glob("docs/**/*.svg")], ids=lambda path: path.name)
def test_every_picture_is_whole_and_used(picture: Path) -> None:
    ElementTree.parse(picture)
    assert any(picture == target for page in PAGES for target, _ in links(page))
