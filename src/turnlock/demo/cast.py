"""The processes of a play: started, listened to, killed, and none left behind."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .reports import Report, parse

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
_MODULE = f"{__package__}.roles"
# A report that the reader makes itself, when a process has closed its stdout.
ENDED = "ended"
_ERRORS_SHOWN = 400


class Member:
    """A running process of the cast."""

    def __init__(self, role: str, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.role = role
        self._process = process
        self._errors = errors

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel is done with it. Twice does nothing."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self._errors.read_text(errors="replace").strip()[-_ERRORS_SHOWN:]


class Cast:
    """Starts processes by role and name, and queues what they report.

    They are in sessions of their own: a Ctrl-C reaches the demo alone, which then ends them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reports: queue.Queue[Report] = queue.Queue()
        self._members: dict[str, Member] = {}

    def start(self, name: str, role: str, **facts: Any) -> Member:
        errors = self._directory / f"{name}.stderr"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, role, json.dumps(facts)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | {"PYTHONPATH": python_path()},
                start_new_session=True,
            )
        member = self._members[name] = Member(name, process, errors)
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()
        return member

    def next(self, timeout: float) -> Report | None:
        """The next report of any of them; None when there was none in that time."""
        try:
            return self._reports.get(timeout=timeout)
        except queue.Empty:
            return None

    def member(self, name: str) -> Member:
        return self._members[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for member in self._members.values():
            member.kill()

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        at = 0.0
        for line in process.stdout:
            report = parse(name, line)
            at = report.at
            self._reports.put(report)
        process.stdout.close()
        self._reports.put(Report(name, at, ENDED, {}))


def python_command(*arguments: str) -> list[str]:
    """``turnlock ARGUMENTS`` by this very interpreter and package."""
    return [sys.executable, "-P", "-m", "turnlock", *arguments]


def python_path() -> str:
    # The processes run this package, also where it is not installed.
    return os.pathsep.join(filter(None, (_PACKAGE_PARENT, os.environ.get("PYTHONPATH"))))
