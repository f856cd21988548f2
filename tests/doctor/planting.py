"""Verbs for tests of doctor: what is planted in a state directory, and what was found."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import turnlock
from tests.helpers import Child, eventually, holder, process_state
from turnlock.clock import SystemClock, iso
from turnlock.doctor.examine import examine
from turnlock.doctor.findings import Finding, Report

HEADER = (
    b'{"type":"session","version":3,"id":"x","timestamp":"2026-01-01T00:00:00.000Z","cwd":"/"}\n'
)
MESSAGE = b'{"type":"message","id":"m","message":{"role":"assistant","content":"hello"}}\n'
FRAGMENT = b'{"type":"message","id":"cut'


def transcript(state: Path, name: str = "a", content: bytes | None = HEADER + MESSAGE) -> Path:
    """The path of a transcript; it gets the content unless that is None."""
    path = state / "agents" / "main" / "sessions" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    return path


def lock(state: Path, content: bytes | dict[str, Any], *, name: str = "a", age: float = 0) -> Path:
    """A lock of another program beside a transcript, last changed ``age`` seconds ago."""
    path = Path(f"{transcript(state, name)}.lock")
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(0o600)
    make_old(path, age)
    return path


def claim_of(pid: int, *, age: float = 5.0, **more: Any) -> dict[str, Any]:
    """A claim as OpenClaw writes them."""
    return {"pid": pid, "createdAt": iso(SystemClock().wall() - age), **more}


def make_old(path: Path, age: float) -> None:
    changed = SystemClock().wall() - age
    os.utime(path, (changed, changed))


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that knows nothing of Turnlock."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def undead() -> Iterator[int]:
    """The pid of a process that has ended and was not reaped: state Z."""
    with subprocess.Popen(["true"]) as process:
        eventually(lambda: process_state(process.pid) == "Z")
        yield process.pid


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def gone_pid() -> int:
    """The pid of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def killed_holder(state: Path, turn_id: str = "T1") -> Child:
    """A holder of ours that was really killed, and left its claim and an open turn."""
    with holder(state, turn_id) as process:
        process.kill()
    return process


def found(state: Path, *, fix: bool = False) -> dict[str, Finding]:
    """The findings by their names. Asserts that no name comes twice."""
    findings = examine(str(state), fix=fix).findings
    by_name = {one.check: one for one in findings}
    assert len(by_name) == len(findings), findings
    return by_name


def names(report: Report) -> list[str]:
    return [one.check for one in report.findings]


def reasons(state: Path, key: str = "main/a") -> list[str]:
    """The reasons of the session's error markers."""
    entries = turnlock.open_store(state).read(key)
    return [one["data"]["reason"] for one in entries if "reason" in one.get("data", {})]


Facts = dict[str, tuple[object, ...]]


def everything(root: Path) -> list[Path]:
    return [root, *sorted(root.rglob("*"))]


def make_unread(paths: list[Path]) -> None:
    """Give all of them access times that the next reading or listing would change."""
    for path in paths:
        status = path.lstat()
        times = (status.st_mtime_ns - 10**12, status.st_mtime_ns)
        os.utime(path, ns=times, follow_symlinks=False)


def facts(paths: list[Path]) -> Facts:
    """All that a change could show in: bytes, modes, owners, inodes, time stamps. Lists nothing."""
    return {str(path): _facts(path) for path in paths}


def _facts(path: Path) -> tuple[object, ...]:
    before = path.lstat()
    content = ""
    if not path.is_symlink() and path.is_file():
        with open(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    return (
        content, before.st_mode, before.st_uid, before.st_gid, before.st_ino, before.st_nlink,
        before.st_size, before.st_atime_ns, before.st_mtime_ns, before.st_ctime_ns,
    )  # fmt: skip


def bytes_of(root: Path) -> Facts:
    """As `facts` of everything, without the time stamps, which a take and a release change."""
    return {path: found[:7] for path, found in facts(everything(root)).items()}
