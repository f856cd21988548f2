"""Tests run in a process of their own, and what became of each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .mutant import ROOT, Mutant, MutantError, mutated

# How long a test waits for what the fault keeps from coming: shorter than in a run without fault.
PATIENCE = 8.0
_TIMEOUT = 120.0
_BROKEN = re.compile(r"\b(ImportError|ModuleNotFoundError|SyntaxError|NameError)\b")
# Without what else is installed: those plugins cost more than most of the tests.
_PLUGINS = ("-p", "no:cacheprovider", "-p", "pytest_timeout")


class Outcome(NamedTuple):
    """One test: ``result`` is passed, failed, skipped or error (outside of the test itself).

    ``kind`` is the name of the exception and ``text`` what it says; of a skip, why.
    """

    test: str
    result: str
    seconds: float
    kind: str = ""
    text: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether it only says that an edit left no code that runs."""
        return _BROKEN.search(f"{self.kind}: {self.text}") is not None


def run_tests(
    mutant: Mutant, tests: Sequence[str], *options: str, timeout: float = _TIMEOUT
) -> list[Outcome]:
    """Run tests, by node id, against the mutant. Raises `MutantError` when none could be run."""
    with mutated(mutant) as source:
        record = source / "outcomes.json"
        command = [sys.executable, "-m", "pytest", "-q", *_PLUGINS, *options]
        said = _run(
            [*command, f"--basetemp={source / 'tmp'}", *tests],
            environment(source, record),
            timeout,
        )
        outcomes = read_outcomes(record) if record.exists() else []
        if not outcomes:
            raise MutantError(f"{mutant.name}: no test ran:\n{said}")
        return outcomes


def _run(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> str:
    """What it says. A fault may make it hang: then it ends with all that it has started."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            return process.communicate(timeout=timeout)[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def environment(source: Path, record: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(source),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "tests.mutants.recording",
        "TURNLOCK_TEST_OUTCOMES": str(record),
        "TURNLOCK_TEST_SOURCE": str(source),
        "TURNLOCK_TEST_PATIENCE": str(PATIENCE),
    }


def read_outcomes(record: Path) -> list[Outcome]:
    return [Outcome(*fields) for fields in json.loads(record.read_text(encoding="utf-8"))]
