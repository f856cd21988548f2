"""What the checks of one run share: where they look, with what, and what they learnt of locks."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable
from enum import Enum
from functools import cached_property

from ..backends import LockRecord
from ..backends.files import FilesBackend, Platform, native
from ..backends.files.fileops import FileOps
from ..backends.files.inspect import Inspector
from ..clock import Clock, SystemClock
from ..config import default_state_directory
from ..store import Store
from ..turns.runtime import Runtime
from .openclaw import named_sessions
from .survey import Survey, SurveyedDirectory, take_survey


def _ignore(_: int) -> None:
    """Nobody wants to know how far it is."""


NOT_TRIED = "not tried: the disk hangs"


class Occupation(Enum):
    """Whether somebody may be writing a session."""

    FREE = "free"
    STALE = "stale"
    HELD = "held"


class Examination:
    """``locks`` are filled by the check of the locks, ``ours`` by those that meet files of ours.

    ``ours`` are the (path, mode) of transcripts and claims that Turnlock wrote, as opposed to
    OpenClaw. ``deep``: whether transcripts are read whole; ``on_read`` is then told of every
    number of bytes that was. ``unit``: the file of a unit of systemd to look at as well.
    ``disk_hangs``: whether a repair did not come to its end; then no other is tried, as each would
    be waited for as long.
    """

    def __init__(
        self,
        root: str,
        *,
        fix: bool = False,
        deep: bool = False,
        on_read: Callable[[int], object] = _ignore,
        unit: str | None = None,
        files: FileOps | None = None,
        clock: Clock | None = None,
        platform: Platform | None = None,
    ) -> None:
        self.root = os.path.realpath(root)
        self.fix = fix
        self.deep = deep
        self.on_read = on_read
        self.unit = unit
        self.files = files or FileOps()
        self.clock = clock or SystemClock()
        self.platform = platform or native()
        self.survey: Survey = take_survey(self.files, self.root)
        self.layout = SurveyedDirectory(self.survey)
        self.backend = FilesBackend(
            self.layout, clock=self.clock, files=self.files, platform=self.platform
        )
        self.store = Store(self.backend, location=self.root, clock=self.clock)
        self.runtime = Runtime(clock=self.clock)
        self.inspector = Inspector(self.files, self.clock, self.platform.processes)
        self.disk_hangs = False
        self.locks: dict[str, LockRecord] = {}
        self.ours: list[tuple[str, int]] = []

    @cached_property
    def openclaw_keys(self) -> dict[str, str]:
        """What OpenClaw calls its sessions: session key by path of the lock."""
        return {f"{one.transcript}.lock": one.key for one in named_sessions(self.files, self.root)}

    def name_of(self, record: LockRecord) -> str:
        """What to type for a locked session; its path, when it has no other name."""
        return self.openclaw_keys.get(record.path) or record.session or record.path

    def command(self, line: str) -> str:
        """A command line of ours for this state directory, to be copied into a shell."""
        return command_line(line, self.root)

    def transcript_bytes(self) -> int:
        """How many bytes there are to read with ``deep``."""
        paths = [
            f"{directory.path}/{name}"
            for directory in self.survey.directories
            for name in directory.transcripts(self.files)
        ]
        return sum(map(self._size, paths))

    def _size(self, path: str) -> int:
        try:
            return self.files.stat_path(path).st_size
        except OSError:
            return 0

    def occupation(self, lock: str) -> Occupation:
        """Who may write the session of this lock path, now."""
        try:
            self.files.stat_path(lock)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return Occupation.FREE
            raise
        seen = self.locks.get(lock)
        if seen is None or not seen.stale:
            return Occupation.HELD
        # It may be another lock by now: that one was removed, and somebody took the session.
        place = self.layout.place_of_lock(lock)
        now = self.inspector.record(place, stale_after=self.store.limits.stale_after)
        if now is None:
            return Occupation.FREE
        return Occupation.STALE if now.stale else Occupation.HELD


def command_line(line: str, root: str) -> str:
    """``turnlock LINE``, with ``--state-dir`` unless ``root`` is the default."""
    if root == os.path.realpath(default_state_directory()):
        return f"turnlock {line}"
    return f"turnlock {line} --state-dir {shlex.quote(root)}"
