"""Programs that tests run as processes of their own, and what they are told to do."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import Child, eventually, process_state

# A store whose process stops itself (SIGSTOP) right before the n-th file call of a kind.
STOPPING = """
    import os, signal, turnlock
    from turnlock.backends.files import FilesBackend, StateDirectory
    from turnlock.backends.files.fileops import FileOps
    from turnlock.store import Store
    class Stopping(FileOps):
        call, left = "", 0
        def stop_at(self, call, number=1):
            self.call, self.left = call, number
        def __getattribute__(self, name):
            if name == object.__getattribute__(self, "call"):
                self.left -= 1
                if self.left == 0:
                    self.call = ""
                    os.kill(os.getpid(), signal.SIGSTOP)
            return object.__getattribute__(self, name)
    files = Stopping()
    store = Store(FilesBackend(StateDirectory(sys.argv[1]), files=files), location=sys.argv[1])
"""

# File operations whose process kills itself right before the n-th call; `left` counts down to it.
KILLING = """
    import os, signal, turnlock
    from turnlock.backends.files import FilesBackend, StateDirectory
    from turnlock.backends.files.fileops import FileOps
    from turnlock.store import Store
    class Killing(FileOps):
        left = 0
        def __getattribute__(self, name):
            value = object.__getattribute__(self, name)
            if callable(value):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return value
"""

# A fork whose child ends with its parent, however that ends.
FORKING = """
    import ctypes, os
    def fork():
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
        return pid
"""

# Many processes that do `one(number, round)`, which stands between these two, all at once in every
# round. Prints how often it failed.
AT_ONCE = """
    import os, turnlock
    state, workers, rounds = sys.argv[1], *map(int, sys.argv[2:4])
    go, done = os.pipe(), os.pipe()
    turnlock.open_store(state)  # what it imports, imported once
"""
ROUNDS = """
    def work(number):
        for round in range(rounds):
            os.read(go[0], 1)
            said = b"."
            try:
                one(number, round)
            except turnlock.TurnlockError:
                said = b"!"
            os.write(done[1], said)
        os._exit(0)

    for number in range(workers):
        if fork() == 0:
            work(number)
    failures = 0
    for _ in range(rounds):
        os.write(go[1], b"g" * workers)
        for _ in range(workers):
            failures += os.read(done[0], 1) == b"!"
    for _ in range(workers):
        os.wait()
    print(failures, flush=True)
"""

# Takes main/a, waiting for so long; says what came of it, and holds until it is told to go on.
TAKE = """
    import os, turnlock
    store = turnlock.open_store(sys.argv[1])
    try:
        with store.turn("main/a", wait=float(sys.argv[2]), turn_id="taker") as turn:
            print("taken", flush=True)
            sys.stdin.readline()
            turn.append(turnlock.user("from the taker"))
        print("released", flush=True)
    except turnlock.TurnlockError as error:
        print(type(error).__name__, flush=True)
"""

# Takes main/a from whoever holds it, as an operator does.
FREE = """
    import turnlock
    print(turnlock.open_store(sys.argv[1]).revoke("main/a"), flush=True)
"""


def stopped_itself(process: Child) -> None:
    eventually(lambda: process_state(process.pid) == "T")


def transcript(state: Path, name: str = "a") -> Path:
    return state / f"agents/main/sessions/{name}.jsonl"


def claim(state: Path, name: str = "a") -> Path:
    return state / f"agents/main/sessions/{name}.jsonl.lock"
