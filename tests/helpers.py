"""Verbs for tests: real processes that talk over their stdout, and a bounded wait for a state."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from turnlock.store import Store
from turnlock.transcript.entries import Entry

# Shorter where a test is run against a fault, and what it waits for never comes.
PATIENCE = float(os.environ.get("TURNLOCK_TEST_PATIENCE", "20"))
# For what comes whatever the fault, such as the start of a process: the same with one as without.
LONG_PATIENCE = 45.0


class Child:
    """A Python process that runs ``code`` with ``args`` as ``sys.argv[1:]``.

    ``prefix``: a command that runs it, such as ``unshare``; ``pid`` is then that of the command.
    """

    def __init__(self, code: str, *args: object, prefix: Sequence[str] = ()) -> None:
        program = "import sys\n" + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-u", "-c", program, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._pending = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self, patience: float = PATIENCE) -> str:
        """The next line that the process prints."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left))
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                raise AssertionError(f"no line came; it said {self._pending!r}: {self._errors()}")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def expect(self, wanted: str, patience: float = PATIENCE) -> None:
        line = self.line(patience)
        assert line == wanted, (line, wanted)

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def stop(self) -> None:
        """SIGSTOP, and not before it has taken effect."""
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: process_state(self.pid) == "T")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and reap it."""
        self.process.kill()
        self.process.wait()

    def ended(self) -> int:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _errors(self) -> str:
        self.process.kill()
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextmanager
def child(code: str, *args: object, prefix: Sequence[str] = ()) -> Iterator[Child]:
    process = Child(code, *args, prefix=prefix)
    try:
        yield process
    finally:
        process.close()


def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait for a condition of another process or thread; its first true value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        os.sched_yield()
        select.select([], [], [], 0.001)
    return value


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; an unreaped one has."""
    try:
        return process_state(pid) in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


HOLD = """
    import turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a", max_hold=float(sys.argv[2]), turn_id=sys.argv[3]) as turn:
        turn.append(turnlock.user("from " + sys.argv[3]))
        print("holding", flush=True)
        try:
            for line in sys.stdin:
                turn.append(turnlock.user(line.strip()))
                print("appended", flush=True)
        except turnlock.LeaseRevoked as error:
            print("revoked", error.reason, flush=True)
            raise SystemExit(3)
"""


@contextmanager
def holder(
    state: Path | str, turn_id: str = "T1", max_hold: float = 300.0, prefix: Sequence[str] = ()
) -> Iterator[Child]:
    """A process that holds ``main/a`` and appends every line that it is told."""
    with child(HOLD, state, max_hold, turn_id, prefix=prefix) as process:
        process.expect("holding", LONG_PATIENCE)
        yield process


def kinds(store: Store, key: str = "main/a") -> list[str]:
    """``turn``, ``user:text``, ``end``, or the reason of a marker, in order."""
    return [_kind(entry) for entry in store.read(key)]


def _kind(entry: Entry) -> str:
    match entry.get("customType"):
        case "turnlock:turn":
            return "turn"
        case "turnlock:end":
            return "end"
        case "openclaw:prompt-error":
            return str(entry["data"]["reason"])
    message = entry["message"]
    return f"{message['role']}:{message['content'][0]['text']}"


def load(path: Path) -> ModuleType:
    """A script that is no module of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
