"""A few points of every sweep; all of them with ``-m sweeps`` or ``make sweeps``.

Each runs as the command does, in a process of its own: it forks, and must have no threads.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.mutants.mutant import ROOT

from .parts import PARTS

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.sweeps", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_no_point_of_a_few_violates_an_invariant(part: str) -> None:
    """I1 to I7, I9 to I11, I13: whatever is killed, stopped, cut or refused."""
    assert "; 0 failed" in run("--part", part, "--quick")


@pytest.mark.sweeps
@pytest.mark.parametrize("part", PARTS)
def test_no_point_of_all_violates_an_invariant(part: str) -> None:
    assert "; 0 failed" in run("--part", part)
