"""On what it was measured: the machine, the versions, the commit, and who else used the machine."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, NamedTuple

import psutil
from tests.postgres.server import programs

from .contenders import NODE_MODULES, ROOT
from .subjects.all import SUBJECTS

# A share of the processors that others used, and a load before the start, from which it is said.
_OTHERS_SHARE = 0.1
_LOAD_A_PROCESSOR = 0.5


def describe(directory: str) -> dict[str, str]:
    """Names and values, in the order in which they are shown."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} of them",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "file system": _file_system(directory),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **_postgres(),
        **_packages(),
        "commit": _commit(),
        "measured": datetime.now(UTC).date().isoformat(),
    }


class Others:
    """How much of the machine was used by anybody but this run, which ends all that it starts."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._started = time.monotonic()
        self._busy = _busy() - _own()

    def warning(self) -> str:
        """That the figures suffered; empty when they did not."""
        elapsed = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        share = max(0.0, _busy() - _own() - self._busy) / elapsed
        loaded = self._load > _LOAD_A_PROCESSOR * (os.cpu_count() or 1)
        if share < _OTHERS_SHARE and not loaded:
            return ""
        return (
            f"the machine was not idle (load {self._load:.1f} before the start;"
            f" {share:.0%} of its processor time went to others)"
        )


def _busy() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


class _Own(NamedTuple):
    user: float
    system: float
    children_user: float
    children_system: float
    elapsed: float


def _own() -> float:
    return sum(_Own(*os.times())[:4])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _file_system(directory: str) -> str:
    """The type of the mounted file system that the directory is on."""
    place = os.path.realpath(directory)
    mounted = [
        part
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath((place, part.mountpoint)) == part.mountpoint
    ]
    found: Any = max(mounted, key=lambda part: len(part.mountpoint), default=None)
    return "unknown" if found is None else str(found.fstype)


def _postgres() -> dict[str, str]:
    found = programs()
    if found is None:
        return {}
    return {"PostgreSQL": _output(str(found / "postgres"), "--version").rpartition(") ")[2]}


def _packages() -> dict[str, str]:
    found = {}
    for package in _distinct(subject.package for subject in SUBJECTS if subject.is_python):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    node = shutil.which("node")
    if node is not None:
        found["Node"] = _output(node, "--version").removeprefix("v")
        script = f"console.log(require('{NODE_MODULES}/proper-lockfile/package.json').version)"
        found["proper-lockfile"] = _output(node, "-e", script)
    return {name: version for name, version in found.items() if version}


def _commit() -> str:
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    changed = _output("git", "status", "--porcelain", "--", "src", "bench")
    return f"{commit}, with changes" if changed else commit


def _output(*command: str) -> str:
    """What a command prints; empty when it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _distinct(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name]
