"""The model of the lock: it is what the code does, it has no error, and it finds those we plant."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import turnlock

ROOT = Path(turnlock.__file__).parent.parent.parent
MODEL = (ROOT / "model/lock.pml").read_text()
MUTANTS = (ROOT / "model/mutants.pml").read_text()
PAGE = (ROOT / "model/README.md").read_text()
SCRIPT = (ROOT / "scripts/model.py").read_text()
CODE = "\n".join(path.read_text() for path in ROOT.glob("src/turnlock/**/*.py"))


def test_every_mutant_is_one_that_is_run() -> None:
    planted = MUTANTS[MUTANTS.index("/* ---- mutants: safety") :]
    run = re.findall(r'Check\("([A-Z_]+)"', SCRIPT)
    assert sorted(re.findall(r"^#ifdef (\w+)", planted, re.MULTILINE)) == sorted(run)


def test_every_function_that_the_page_names_is_in_the_code() -> None:
    """So that whoever renames one comes by the model."""
    named = re.findall(r"`([A-Z]\w*)\.(\w+)(?:\(.*?\))?`", PAGE)
    assert len(named) > 20
    for owner, name in named:
        assert re.search(rf"^class {owner}\b", CODE, re.MULTILINE), owner
        assert re.search(rf"^ +(def )?{name}\b", CODE, re.MULTILINE), name


def test_every_step_that_the_page_names_is_in_the_model() -> None:
    table = PAGE[PAGE.index("| step of the model") : PAGE.index("## Faults")]
    steps = [row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|")]
    named = [name for step in steps for name in re.findall(r"`(\w+)`", step)]
    assert len(named) > 15
    for name in named:
        assert re.search(rf"\b{name}\b", MODEL), name


@pytest.mark.model
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("cc")), reason="needs spin and cc: see model/README"
)
def test_the_smallest_configurations_are_exhausted_and_mutants_found() -> None:
    command = [sys.executable, str(ROOT / "scripts/model.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of them exhausted without an error; 3 of 3 mutants found" in done.stdout
