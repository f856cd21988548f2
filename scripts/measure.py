"""Print the figures that the documentation quotes, with the floor or the machine beside them.

``python scripts/measure.py [DIRECTORY]``: on the file system of DIRECTORY (default: a new temporary
one). Times are medians; ratios are within this run.
"""

import asyncio
import fcntl
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import turnlock
from turnlock.events import TurnRevoked

ROUNDS = 40
CYCLES = 100


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
        cycles(directory)
        hand_off(directory)
        recovery(directory)
        revocation(directory)


# Take and release, uncontended


def cycles(directory: str) -> None:
    names = ("bare calls", "SessionLock", "empty turn", "async empty turn")
    lock = turnlock.SessionLock(f"{directory}/lock.jsonl")
    store = turnlock.open_store(f"{directory}/state")
    bare = bare_cycle(directory)

    def locked() -> None:
        with lock:
            pass

    def turn() -> None:
        with store.turn("main/a"):
            pass

    async def turns() -> float:
        started = time.perf_counter()
        for _ in range(CYCLES):
            async with store.turn("main/b"):
                pass
        return (time.perf_counter() - started) / CYCLES

    rows: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, call in zip(names, (bare, locked, turn), strict=False):
            rows[name].append(per_call(call))
        rows["async empty turn"].append(asyncio.run(turns()))
    floor = statistics.median(rows["bare calls"])
    for name in names:
        median = statistics.median(rows[name])
        print(f"take and release, {name:17} {median * 1e6:8.0f} us  {median / floor:5.2f} x bare")


def bare_cycle(directory: str) -> Callable[[], None]:
    """The system calls that any such lock needs, and nothing else."""
    proc = os.open("/proc/self/fd", os.O_RDONLY)
    path = f"{directory}/bare.lock"
    payload = b"x" * 400

    def cycle() -> None:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, payload)
        os.link(str(fd), path, src_dir_fd=proc)
        os.unlink(path)
        os.close(fd)

    return cycle


def per_call(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    for _ in range(CYCLES):
        call()
    return (time.perf_counter() - started) / CYCLES


# Between processes

HOLDER = """
import sys, time, turnlock
store = turnlock.open_store(sys.argv[1])
with store.turn("main/a") as turn:
    if sys.argv[2] == "write":
        turn.append(turnlock.user("x"))
    print("holding", flush=True)
    sys.stdin.readline()
    print(time.monotonic(), flush=True)
"""
WAITER = """
import sys, time, turnlock
store = turnlock.open_store(sys.argv[1])
print("waiting", flush=True)
with store.turn("main/a"):
    print(time.monotonic(), flush=True)
"""


def start(program: str, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def say(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def asleep(process: "subprocess.Popen[str]") -> None:
    """Until the waiter sleeps in its wait; it has said so, and has nothing else to wait for."""
    time.sleep(0.15)


def hand_off(directory: str) -> None:
    late = []
    for number in range(ROUNDS // 2):
        state = f"{directory}/hand-off-{number}"
        holder = start(HOLDER, state, "nothing")
        say(holder)
        waiter = start(WAITER, state)
        say(waiter)
        asleep(waiter)
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()
        released = float(say(holder))
        late.append(float(say(waiter)) - released)
        holder.wait()
        waiter.wait()
    print(f"release to the waiter of another process   {report(late)}")


def recovery(directory: str) -> None:
    for wrote in ("nothing", "write"):
        late = []
        for number in range(ROUNDS // 2):
            state = f"{directory}/recovery-{wrote}-{number}"
            holder = start(HOLDER, state, wrote)
            say(holder)
            waiter = start(WAITER, state)
            say(waiter)
            asleep(waiter)
            killed = time.monotonic()
            holder.kill()
            late.append(float(say(waiter)) - killed)
            holder.wait()
            waiter.wait()
        label = "with its marker" if wrote == "write" else "that wrote nothing"
        print(f"kill -9 of a holder {label:18} to next {report(late)}")


# Revocation


def revocation(directory: str) -> None:
    store = turnlock.open_store(f"{directory}/revocation")
    late: list[float] = []
    store.subscribe(lambda e: late.append(e.late) if isinstance(e, TurnRevoked) else None)

    async def hang(blocked: bool) -> None:
        try:
            async with store.turn("main/a", max_hold=0.1):
                if blocked:
                    time.sleep(0.2)  # noqa: ASYNC251 - the blocked loop is the subject
                await asyncio.sleep(10)
        except turnlock.LeaseRevoked:
            pass

    for blocked in (False, True):
        late.clear()
        for _ in range(ROUNDS // 2):
            asyncio.run(hang(blocked))
        where = "loop blocked" if blocked else "task hangs"
        print(f"fence after the deadline, {where:12}     {report(late)}")


def report(values: list[float]) -> str:
    ordered = sorted(value * 1000 for value in values)
    return f"{statistics.median(ordered):7.2f} ms median, {ordered[-1]:.2f} ms at most"


if __name__ == "__main__":
    main()
