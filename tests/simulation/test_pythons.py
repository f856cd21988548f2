"""A seed is one history on every Python that Turnlock supports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .runs import digests

_SEEDS = 120
_VERSIONS = ("3.11", "3.12", "3.13")
_REPOSITORY = Path(__file__).parents[2]
_PATIENCE = 300


def _interpreter(version: str) -> str | None:
    """Of that version, on the path or among pyenv's."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version == ours:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    candidates = [*map(str, found), shutil.which(f"python{version}")]
    return next((one for one in candidates if one and _runs(one, version)), None)


def _runs(interpreter: str, version: str) -> bool:
    # pyenv puts shims on the path for versions that are not there.
    asked = [interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() == version


def _greenlet(version: str) -> Path:
    """greenlet for that version, got once and kept beside this environment."""
    target = Path(sys.prefix) / "other-pythons" / version
    if not (target / "greenlet").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)]
        command += ["--python-version", version, "--only-binary", ":all:", "--no-deps", "greenlet"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"greenlet for Python {version} cannot be had here")
    return target


@pytest.mark.pythons
@pytest.mark.timeout(_PATIENCE)
@pytest.mark.parametrize("version", _VERSIONS)
def test_a_seed_is_the_same_history_on(version: str) -> None:
    interpreter = _interpreter(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not installed here")
    path = [str(_REPOSITORY), str(_REPOSITORY / "src"), str(_greenlet(version))]
    command = [interpreter, "-m", "tests.simulation", "--digests", "--seeds", str(_SEEDS)]
    there = subprocess.run(
        command,
        cwd=_REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONHASHSEED": "random"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [f"{seed} {digest}" for seed, digest in digests(range(_SEEDS))]
    assert there.stdout.splitlines() == here
