"""Contenders from the outside: started, told what to do, ended."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .subjects import Subject

ROOT = Path(__file__).parent.parent
NODE_MODULES = ROOT / ".bench" / "node" / "node_modules"


class Contender:
    """A contender process. ``with`` ends it."""

    def __init__(self, subject: Subject, path: str) -> None:
        self._process = subprocess.Popen(
            _command(subject, path),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # They start side by side; only the first order waits for the start.
        self._ready = False

    def await_start(self) -> None:
        """Until it can be given orders."""
        if not self._ready:
            self._ready = True
            self.answer()

    def order(self, order: str, *arguments: Any) -> None:
        """Tell it what to do; `answer` waits for the end of that."""
        self.await_start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([order, *arguments]) + "\n")
        self._process.stdin.flush()

    def answer(self, *, within: float | None = None) -> Any:
        """What it answers; None when it does not within that many seconds."""
        assert self._process.stdout is not None
        if within is not None and not select.select([self._process.stdout], [], [], within)[0]:
            return None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contender ended by itself: {self._process.args!r}")
        return json.loads(line)

    def ask(self, order: str, *arguments: Any) -> Any:
        self.order(order, *arguments)
        return self.answer()

    def kill(self) -> None:
        """By SIGKILL; reaped at once, as some locks take a zombie for a holder that lives."""
        self._process.kill()
        threading.Thread(target=self._process.wait).start()

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _command(subject: Subject, path: str) -> list[str]:
    if not subject.is_python:
        script = str(Path(__file__).with_suffix("").parent / "contender.mjs")
        return ["node", script, path, str(NODE_MODULES)]
    return [sys.executable, "-m", "bench.contender", subject.name, path]


def missing(subject: Subject) -> str | None:
    """Why a subject cannot contend here; None when it can."""
    if subject.is_python:
        return subject.missing()
    if shutil.which("node") is None:
        return f"{subject.label}: node is not installed"
    if not (NODE_MODULES / subject.package).is_dir():
        return f"{subject.label}: the npm package {subject.package} is not installed"
    return None


def a_path(directory: str, subject: Subject, *, name: str = "lock") -> str:
    """A path for one subject alone: no two of them make files beside each other."""
    place = os.path.join(directory, subject.name)
    os.makedirs(place, exist_ok=True)
    return os.path.join(place, name)
