"""Tests run in a process of their own, and what became of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .mutant import ROOT, Mutant, MutantError, mutated

# How long a test waits for what the fault keeps from coming: shorter than in a run without fault.
PATIENCE = 8.0
_TIMEOUT = 120.0
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


def run_tests(
    mutant: Mutant, tests: Sequence[str], *options: str, timeout: float = _TIMEOUT
) -> list[Outcome]:
    """Run tests, by node id, against the mutant. Raises `MutantError` when none could be run."""
    with mutated(mutant) as source:
        record = source / "outcomes.json"
        command = [sys.executable, "-m", "pytest", "-q", *_PLUGINS, *options]
        done = subprocess.run(
            [*command, f"--basetemp={source / 'tmp'}", *tests],
            cwd=ROOT,
            env=environment(source, record),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if not record.exists():
            raise MutantError(f"{mutant.name}: no test ran:\n{done.stdout}{done.stderr}")
        return read_outcomes(record)


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
