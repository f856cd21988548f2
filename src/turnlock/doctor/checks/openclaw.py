"""What was meant, and what OpenClaw or the release of its locks left here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from ...backends.files.aside import is_aside
from ...backends.files.layout import list_names
from ..examination import Examination, command_line
from ..findings import Finding, finding
from ..looking import openclaw_directory

_DATABASE = "agent/openclaw-agent.sqlite"
_AGENTS = "agents"


def check_openclaw(examination: Examination) -> Iterator[Finding]:
    yield from _check_meant(examination)
    yield from _check_database(examination)
    yield from _check_released(examination)


def _check_meant(examination: Examination) -> Iterator[Finding]:
    """A directory that has something, but no agents: every check finds it sound."""
    root, names = examination.root, examination.survey.names
    if _AGENTS in names or all(map(_is_ours, names)):
        return
    inside = (f"{root}/{name}" for name in sorted(names))
    found = [path for path in inside if os.path.isdir(f"{path}/{_AGENTS}")]
    own = openclaw_directory()
    meant = [*found, *([own] if own is not None and os.path.realpath(own) != root else [])]
    hint = command_line("doctor", meant[0]) if meant else "name another with --state-dir"
    message = f"there is no directory {_AGENTS!r} here, so no session of Turnlock or OpenClaw"
    yield finding("no-sessions", root, message, hint)


def _is_ours(name: str) -> bool:
    """What a gateway keeps in its state directory before there is a session."""
    return name == "token" or name.startswith(("gateway", ".gateway"))


def _check_database(examination: Examination) -> Iterator[Finding]:
    for agent in list_names(examination.files, f"{examination.root}/{_AGENTS}"):
        path = f"{examination.root}/{_AGENTS}/{agent}/{_DATABASE}"
        if os.path.lexists(path):
            yield finding(
                "openclaw-database",
                path,
                "OpenClaw keeps the sessions of its newer releases (from 2026.7.2) in this"
                " database, without lock files; it was not looked into",
                "for those sessions: openclaw doctor",
            )


def _check_released(examination: Examination) -> Iterator[Finding]:
    for directory in examination.survey.directories:
        for name in sorted(filter(is_aside, directory.names)):
            path = f"{directory.path}/{name}"
            yield finding(
                "released-lock",
                path,
                "the lock of another program that 'turnlock release' moved aside",
                f"once that program was restarted: rm {shlex.quote(path)}",
            )
