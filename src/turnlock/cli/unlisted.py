"""Directories of sessions that could not be listed: what a command shows is not all there is."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from ..backends.files.fileops import FileOps
from ..doctor.survey import take_survey
from ..printable import printable
from .exits import ExitCode
from .options import named_store, state_directory
from .terminal import say


class Unlisted(NamedTuple):
    """(path, why) of each directory."""

    directories: tuple[tuple[str, str], ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What ``--json`` has more, if there is one."""
        if not self.directories:
            return {}
        return {"unreadable": [{"path": path, "why": why} for path, why in self.directories]}

    def told(self, code: int = ExitCode.OK) -> int:
        """Say so on stderr; the exit code of a command that would end with ``code`` else."""
        for path, why in self.directories:
            text = f"turnlock: directory {printable(repr(path))} cannot be listed: {printable(why)}"
            say(text, to_stderr=True)
        return ExitCode.USAGE if self.directories else code


def unlisted(ctx: click.Context) -> Unlisted:
    """Those of the state directory; a database has none. Raises `CannotLook`."""
    if named_store(ctx) is not None:
        return Unlisted()
    return unlisted_in(state_directory(ctx))


def unlisted_in(root: str) -> Unlisted:
    return Unlisted(take_survey(FileOps(), root).unreadable)
