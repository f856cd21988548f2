"""What takes longer than the tests may: every part by its name, and what it left behind.

    python scripts/torture.py [PART …]

Each part runs with a directory of its own for temporary files and a mark in the environment of its
processes. Afterwards processes with that mark, files in that directory and new mounts are counted:
one that was left is a failure, as much as a red part. Without PART the table of parts is printed.
Exits with 1 when a part failed or left something, and with 2 for a part that is none.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_MARK = "TURNLOCK_TORTURE"
_PATIENCE = 5.0


class Part(NamedTuple):
    """``python`` in the command is this one."""

    what: str
    command: str


PARTS = {
    "failures": Part("every failure, and its faults", "python -m tests.failures --check"),
    "kill": Part("SIGKILL at every file call", "python -m tests.sweeps --part kill"),
    "stop": Part("SIGSTOP at every file call", "python -m tests.sweeps --part stop"),
    "power": Part("the power cut at every moment", "python -m tests.sweeps --part power"),
    "errno": Part(
        "an error or a short write at every file call", "python -m tests.sweeps --part errno"
    ),
    "chaos": Part("kills, stops and hangs at random", "python -m tests.sweeps --part chaos"),
    "simulation": Part(
        "schedules of a simulated machine", "python -m tests.simulation --seeds 50000"
    ),
    "simulation-more": Part(
        "as many more of them", "python -m tests.simulation --seeds 50000 --start 50000"
    ),
    "races": Part("planted races, found by the simulation", "python -m tests.simulation --mutants"),
    "model": Part("every state of the protocol, and its mutants", "python scripts/model.py"),
    "mutants-files": Part(
        "one-line faults of locks and transcripts, and the test that sees each",
        "python -m tests.mutants claims cleaning lock storage transcript",
    ),
    "mutants-turns": Part("one-line faults of turns", "python -m tests.mutants calls tasks turns"),
    "mutants-waiting": Part(
        "one-line faults of waiters, the watchdog and the writer",
        "python -m tests.mutants waiting watchdog writer",
    ),
    "mutants-gateway": Part(
        "one-line faults of the gateway and its models", "python -m tests.mutants gateway models"
    ),
    "mutants-outer": Part(
        "one-line faults of commands, doctor, and what reads inputs",
        "python -m tests.mutants cli doctor inputs",
    ),
    "fuzz": Part("inputs that nobody meant", "make -s fuzz SECONDS=40"),
    "api": Part("the gateway against its description", "python scripts/api_check.py"),
    "tests": Part(
        "all tests, those of other interpreters too",
        "python -m pytest -q -n 2 -m 'not bites and not failures'",
    ),
}


class Left(NamedTuple):
    """What was not there before a part, and is there after it."""

    processes: list[str]
    files: list[str]
    mounts: list[str]

    @property
    def lines(self) -> list[str]:
        kinds = zip(("process", "file", "mount"), self, strict=True)
        return [f"left a {kind}: {one}" for kind, found in kinds for one in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="*", metavar="PART", help="default: none; list them")
    wanted = parser.parse_args().part
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if not wanted:
        for name, part in PARTS.items():
            print(f"{name:<16}{part.what}")
    failed = [name for name in wanted if not run(name)]
    return int(bool(failed))


def run(name: str) -> bool:
    print(f"{name}: {PARTS[name].what}", flush=True)
    began = time.monotonic()
    mark = uuid.uuid4().hex
    mounted = mounts()
    with TemporaryDirectory(prefix="turnlock-torture-") as directory:
        # What gives up root in a part, as PostgreSQL's server does, has to get through.
        os.chmod(directory, 0o755)
        environment = os.environ | {_MARK: mark, "TMPDIR": directory}
        words = shlex.split(PARTS[name].command)
        command = [sys.executable if word == "python" else word for word in words]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        left = Left(remaining(mark), files(directory), sorted(mounts() - mounted))
    for line in left.lines:
        print(f"{name}: {line}")
    passed = code == 0 and not left.lines
    verdict = "passed" if passed else f"FAILED (exit {code})"
    print(f"{name}: {verdict} in {time.monotonic() - began:.0f} s", flush=True)
    return passed


def remaining(mark: str) -> list[str]:
    """Processes of a part that are there when it is through; the last of them get a moment."""
    deadline = time.monotonic() + _PATIENCE
    while (found := list(_marked(f"{_MARK}={mark}".encode()))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _marked(entry: bytes) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                yield f"{process.name} {command.decode(errors='replace')[:200]}"
        except OSError:
            # It ended, or is somebody else's.
            continue


def files(directory: str) -> list[str]:
    """What lies there, but for what pytest keeps of its last runs."""
    return [name for name in sorted(os.listdir(directory)) if not name.startswith("pytest-of-")]


def mounts() -> set[str]:
    return set(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
