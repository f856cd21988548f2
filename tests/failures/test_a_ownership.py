"""A. Who owns the lock: identity and staleness."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

import turnlock
from tests.cli import running
from tests.doctor.planting import claim_of, lock, make_old, sleeper, start_time, undead
from tests.helpers import (
    HOLD,
    LONG_PATIENCE,
    PATIENCE,
    Child,
    child,
    eventually,
    holder,
    process_state,
)
from tests.mutants import faults
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.backends.files.guard import flock_holder
from turnlock.doctor.examine import examine
from turnlock.events import LockReclaimed
from turnlock.store import Store

from .declaring import Bite, mode, needs, waits
from .namespaces import MOUNTS, PIDS, in_shell, unshared
from .programs import AT_ONCE, FORKING, ROUNDS, STOPPING, TAKE, claim, stopped_itself, transcript

if TYPE_CHECKING:
    # What a gateway needs takes longer to import than most of these tests to run.
    from tests.gateway.serving import Served


@mode("A1", bites=Bite(faults.NO_WATCHDOG, shows="no answer"))
def test_a1_a_hung_model_call_in_a_live_process_gives_the_session_back(tmp_path: Path) -> None:
    from tests.gateway import serving

    with serving.process(tmp_path, limits="first_token = 1.5\nturn = 30.0") as (gateway, process):
        # One that left would end its turn; it stays for longer than the next one has patience.
        hang = partial(reply_of, gateway, "/hang", 3 * PATIENCE)
        hung = threading.Thread(target=hang, daemon=True)
        hung.start()
        eventually(gateway.is_held)
        assert "hello" in reply_of(gateway, "hello")
        hung.join()
        assert process.process.poll() is None, "without a restart"
        assert [one["reason"] for one in gateway.markers()] == ["model-limit"]


def reply_of(gateway: Served, text: str, timeout: float = PATIENCE) -> str:
    """What a gateway answers in session ``a``, or which error."""
    import openai

    from tests.gateway import serving

    try:
        with gateway.client_sync(max_retries=0, timeout=timeout) as client:
            answer = client.chat.completions.create(
                model="main", messages=serving.user(text), extra_headers=serving.in_session("a")
            )
    except openai.APIError as error:
        return f"no answer: {type(error).__name__}"
    return str(answer.choices[0].message.content)


@mode("A2", bites=Bite(faults.DEAD_IS_HELD, shows="SessionBusy"))
def test_a2_a_killed_holder_is_reclaimed_by_whoever_comes_next(state: Path) -> None:
    events: list[object] = []
    store = turnlock.open_store(state)
    store.subscribe(events.append)
    with holder(state, "T1") as process:
        process.kill()
        (found,) = store.locks()
        with store.turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("next"))
    assert (found.stale, found.reasons) == (True, ("dead-pid",))
    assert LockReclaimed("main/a", process.pid, "T1", "interrupted") in events


# In a pid namespace of its own, where the next pid can be chosen.
RECYCLE = """
    import json, os, subprocess, time, turnlock
    state, program = sys.argv[1:3]
    def again(pid):
        while True:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
            process = subprocess.Popen(["sleep", "60"])
            if process.pid == pid:
                return process
            process.kill()
            process.wait()
    def started(pid):
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    def take(what):
        try:
            with turnlock.open_store(state).turn("main/a", wait=0):
                print(what, "taken", flush=True)
        except turnlock.SessionBusy:
            print(what, "busy", flush=True)

    arguments = [sys.executable, "-c", "import sys\\n" + program, state, "300", "T1"]
    holder = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"holding\\n"
    holder.kill()
    holder.wait()
    stranger = again(holder.pid)
    take("ours")

    lock = f"{state}/agents/main/sessions/a.jsonl.lock"
    before = started(stranger.pid)
    with open(lock, "w") as file:
        json.dump({"pid": stranger.pid, "starttime": before}, file)
    take("foreign, alive")
    while started(stranger.pid) == before:
        stranger.kill()
        stranger.wait()
        stranger = again(stranger.pid)
    take("foreign, recycled")
    stranger.kill()
"""


@needs("namespaces")
@mode(
    "A3",
    bites=(
        Bite(faults.NO_START_TIME, shows="foreign, recycled busy"),
        Bite(faults.PID_ALONE, shows="ours busy"),
    ),
)
def test_a3_a_process_that_has_the_holders_pid_is_not_the_holder(state: Path) -> None:
    with child(RECYCLE, state, textwrap.dedent(HOLD), prefix=unshared(*PIDS)) as process:
        process.expect("ours taken")
        process.expect("foreign, alive busy")
        process.expect("foreign, recycled taken")


INCARNATE = """
    import os, turnlock
    again = "; ".join((
        "import sys, os, turnlock",
        "turn = turnlock.open_store(sys.argv[1]).turn('main/a', wait=0)",
        "turn.__enter__()",
        "print('taken by', os.getpid(), flush=True)",
        "turn.__exit__(None, None, None)",
    ))
    with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("of before"))
        print(os.getpid(), flush=True)
        os.execv(sys.executable, [sys.executable, "-c", again, sys.argv[1]])
"""


@mode("A4", bites=Bite(faults.INHERITED, shows="SessionBusy"))
def test_a4_a_process_that_executes_itself_anew_has_let_go(state: Path) -> None:
    with child(INCARNATE, state) as process:
        pid = process.line()
        process.expect(f"taken by {pid}")
    texts = [entry.get("customType") for entry in turnlock.open_store(state).read("main/a")]
    assert "openclaw:prompt-error" in texts


@needs("namespaces")
@mode("A5", bites=Bite(faults.PID_ALONE, shows="taken"))
def test_a5_containers_on_one_directory_respect_each_other(state: Path) -> None:
    other = unshared(*PIDS)
    # With a pid that nobody else has in there or out here.
    far = [*other, *in_shell('echo 400000 > /proc/sys/kernel/ns_last_pid; "$@"; exit $?')]
    with holder(state, prefix=far) as process:
        for prefix in (other, ()):
            with child(TAKE, state, 0, prefix=prefix) as taker:
                taker.expect("SessionBusy")
        store = turnlock.open_store(state)
        assert [one.stale for one in store.clean_stale()] == [False]
        process.tell("goes on")
        process.expect("appended")
        process.kill()
        with child(TAKE, state, PATIENCE, prefix=other) as taker:
            taker.expect("taken")


@needs("namespaces")
@mode("A6", bites=Bite(faults.OTHER_BOOT_IS_HELD, shows="SessionBusy"))
def test_a6_a_holder_of_the_boot_before_is_dead(state: Path, tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("0d0d0d0d-0000-4000-8000-000000000000\n")
    before = in_shell(f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"')
    with holder(state, prefix=[*unshared(*MOUNTS), *before]) as process, sleeper() as stranger:
        written = json.loads(claim(state).read_text())
        assert written["bootId"] == boot.read_text().strip()
        process.kill()
        # After the boot its pid is somebody else's.
        claim(state).write_text(json.dumps(written | {"pid": stranger.pid}))
        store = turnlock.open_store(state)
        (found,) = store.locks()
        with store.turn("main/a", wait=0):
            pass
        assert (found.stale, found.reasons) == (True, ("other-boot",))


RENAMED = """
    import ctypes, turnlock
    with turnlock.open_store(sys.argv[1]).turn("main/a") as turn:
        ctypes.CDLL(None).prctl(15, b"(a) renamed", 0, 0, 0)
        print(open("/proc/self/comm").read().strip(), flush=True)
        sys.stdin.readline()
        turn.append(turnlock.user("still mine"))
    print("released", flush=True)
"""


@mode("A7", bites=Bite(faults.NAMED_PYTHON, shows="stale"))
def test_a7_a_holder_that_renames_itself_keeps_its_lock(state: Path) -> None:
    with child(RENAMED, state) as process:
        process.expect("(a) renamed")
        report = examine(str(state), fix=True)
        assert [(one.stale, one.removed) for one in report.locks] == [(False, False)], "stale"
        process.tell()
        process.expect("released")


@mode("A7", bites=Bite(faults.PID_ALONE, shows="SessionBusy"))
def test_a7_a_live_stranger_keeps_no_lock_alive(state: Path) -> None:
    with holder(state) as process, sleeper() as stranger:
        process.kill()
        written = json.loads(claim(state).read_text())
        claim(state).write_text(json.dumps(written | {"pid": stranger.pid}))
        with turnlock.open_store(state).turn("main/a", wait=0):
            pass


@mode("A8", bites=Bite(faults.ZOMBIES_LIVE, shows="SessionBusy"))
def test_a8_a_process_that_nobody_reaped_holds_nothing(state: Path) -> None:
    with undead() as pid:
        lock(state, claim_of(pid, starttime=start_time(pid)))
        with turnlock.open_store(state).turn("main/a", wait=0):
            assert process_state(pid) == "Z"


@mode("A8", bites=Bite(faults.NEVER_PAST_GRACE, shows="no answer"))
def test_a8_behind_a_stopped_predecessor_the_next_gateway_serves(
    state: Path, tmp_path: Path
) -> None:
    from tests.gateway import serving

    with holder(state, max_hold=0.3) as stopped:
        stopped.stop()
        with serving.process(tmp_path, limits="wait = 30.0") as (gateway, _):
            assert "hello" in reply_of(gateway, "hello")


@mode("A8", bites=Bite(faults.STOPPED_UNSEEN, shows="is stopped"))
def test_a8_beside_a_stopped_gateway_a_start_ends_at_once_and_names_it(tmp_path: Path) -> None:
    from tests.gateway import serving

    with serving.process(tmp_path) as (gateway, process):
        process.stop()
        second = running.run(gateway.state, "gateway", "--port", "0")
        assert second.code == 75
        assert f"process {process.pid} at {gateway.url}, is stopped" in second.err
        assert f"kill -CONT {process.pid}, or end it: kill -KILL {process.pid}" in second.err
        process.go_on()
        assert "hello" in reply_of(gateway, "hello")


class Unreadable(FileOps):
    """Fails to read one file, for as long as it is told to."""

    def __init__(self, path: Path, number: int) -> None:
        self._wanted = path
        self._number = number

    def read_at(self, handle: Handle, offset: int, length: int) -> bytes:
        if Path(os.readlink(f"/proc/self/fd/{handle.fd}")) == self._wanted:
            raise OSError(self._number, os.strerror(self._number))
        return super().read_at(handle, offset, length)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EAGAIN, errno.EINTR])
@mode("A9", bites=Bite(faults.READ_ERROR_IS_EMPTY, shows="flock-held"))
def test_a9_a_lock_that_cannot_be_read_is_kept(state: Path, number: int) -> None:
    with holder(state) as process:
        make_old(claim(state), 3600)
        backend = FilesBackend(StateDirectory(str(state)), files=Unreadable(claim(state), number))
        store = Store(backend, location=str(state))
        (found,) = store.clean_stale()
        assert (found.stale, found.removed, found.reasons[0]) == (False, False, "read-error")
        with pytest.raises(turnlock.StoreError), store.turn("main/a", wait=0):
            pass
        process.tell("still mine")
        process.expect("appended")


BORN = """
    files.stop_at("write")
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("born late"))
    print("done", flush=True)
"""


@mode("A10", bites=Bite(faults.NAMED_BEFORE_WRITTEN, shows="SessionBusy"))
def test_a10_nobody_meets_a_claim_that_is_half_made(state: Path) -> None:
    with child(STOPPING + BORN, state) as owner:
        stopped_itself(owner)
        with turnlock.open_store(state).turn("main/a", wait=0, turn_id="T2") as turn:
            turn.append(turnlock.user("came second, was born first"))
            owner.go_on()
            turn.append(turnlock.user("and is alone"))
        owner.expect("done")
    epochs = [entry["epoch"] for entry in turnlock.open_store(state).read("main/a")]
    assert epochs == sorted(epochs)


GARBAGE = {
    "nothing": b"",
    "NULs": b"\0" * 100,
    "10 MB": b"x" * 10_000_000,
    "{}": b"{}",
    "no UTF-8": b"\xff\xfe{",
    "half": b'{"pid": 12',
    "pid -1": b'{"pid": -1}',
    "pid 1e99": b'{"pid": 1e99}',
    "pid true": b'{"pid": true}',
    "a pid of 5000 digits": b'{"pid": 1' + b"0" * 5000 + b"}",
    "text": b'{"pid": "\xe2\x98\x83"}',
    "deep": b"[" * 60_000,
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
@mode("A11", bites=Bite(faults.ONLY_JSON_ERRORS, shows="Unicode|digits|Recursion"))
def test_a11_garbage_is_answered_by_name_and_taken_once_it_is_old(
    state: Path, content: bytes
) -> None:
    store = turnlock.open_store(state)
    path = lock(state, content)
    try:
        store.turn("main/a", wait=0).__enter__()
        answer: Exception | None = None
    except Exception as error:  # noqa: BLE001 - what has no type of ours is what must not come
        answer = error
    assert isinstance(answer, turnlock.SessionBusy), repr(answer)
    (found,) = examine(str(state)).locks
    assert (found.stale, found.reasons) == (False, ("unreadable",))
    make_old(path, 3600)
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("taken"))


SECOND_BREAKER = """
    # The second flock: the first is that of its own claim, which it makes before it looks.
    files.stop_at("flock", 2)
    try:
        with store.turn("main/a", wait=0):
            print("taken", flush=True)
    except turnlock.SessionBusy:
        print("busy", flush=True)
"""


@mode("A12", bites=Bite(faults.RENAME_UNSEEN, shows="taken"))
def test_a12_of_two_who_saw_the_lock_stale_one_gets_it(state: Path) -> None:
    with holder(state) as dead:
        dead.kill()
    with child(STOPPING + SECOND_BREAKER, state) as second:
        stopped_itself(second)
        with turnlock.open_store(state).turn("main/a", wait=0) as turn:
            second.go_on()
            second.expect("busy")
            turn.append(turnlock.user("alone"))


# Every round all start at once on a lock whose holder is dead, and each tries to be alone.
BREAKERS = """
    import logging, mmap, os, time, turnlock
    logging.disable()  # nobody reads what they say while they run
    state, workers, rounds, seconds = sys.argv[1], *map(int, sys.argv[2:5])
    lock = f"{state}/agents/main/sessions/a.jsonl.lock"
    with open(lock, "rb") as file:
        dead = file.read()
    go, done = os.pipe(), os.pipe()
    inside = mmap.mmap(-1, 4)
    turnlock.open_store(state)  # what it imports, imported once

    def work(number):
        me = number.to_bytes(4, "little")
        store = turnlock.open_store(state, durability="none")
        while os.read(go[0], 1) == b"g":
            said = b"-"
            try:
                with store.turn("main/a", wait=0):
                    before = inside[:]
                    inside[:] = me
                    os.sched_yield()
                    said = b"1" if (before, inside[:]) == (b"\\0" * 4, me) else b"2"
                    inside[:] = b"\\0" * 4
            except turnlock.SessionBusy:
                pass
            except Exception:
                said = b"!"
            os.write(done[1], said)
        os._exit(0)

    for number in range(1, workers + 1):
        if fork() == 0:
            work(number)
    until = time.monotonic() + seconds
    counts = {b"-": 0, b"1": 0, b"2": 0, b"!": 0}
    played = 0
    while played < rounds and time.monotonic() < until:
        played += 1
        with open(lock + ".dead", "wb") as file:
            file.write(dead)
        os.rename(lock + ".dead", lock)
        os.write(go[1], b"g" * workers)
        for _ in range(workers):
            counts[os.read(done[0], 1)] += 1
    os.write(go[1], b"s" * workers)
    for _ in range(workers):
        os.wait()
    print(played, counts[b"1"], counts[b"2"], counts[b"!"], flush=True)
"""


@mode("A12", bites=Bite(faults.BREAKS_BY_PATH, shows="two at once|errors"))
def test_a12_sixteen_who_break_one_dead_lock_are_never_two_inside(state: Path) -> None:
    with holder(state) as dead:
        dead.kill()
    with child(FORKING + BREAKERS, state, 16, 2000, 3) as race:
        played, alone, together, failed = map(int, race.line(LONG_PATIENCE).split())
    assert together == 0, f"two at once: {together} times"
    assert failed == 0, f"{failed} errors"
    assert alone >= played > 1


RELEASING = """
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("mine"))
        files.stop_at("fdatasync")  # of its terminal entry: the release comes next
    print("left", flush=True)
"""


@mode("A13", bites=Bite(faults.UNLINK_BY_PATH, shows="LeaseRevoked"))
def test_a13_a_late_release_leaves_the_successors_lock(state: Path) -> None:
    store = turnlock.open_store(state)
    with child(STOPPING + RELEASING, state) as late:
        stopped_itself(late)
        assert store.revoke("main/a")
        with store.turn("main/a", wait=0) as turn:
            late.go_on()
            late.expect("left")
            turn.append(turnlock.user("successor"))


LOCKED = """
    import turnlock
    from turnlock.turns import watchdog
    watchdog.TICK = 3600.0  # that would tell it before it leaves
    try:
        with turnlock.SessionLock(sys.argv[1]):
            print("holding", flush=True)
            sys.stdin.readline()
        print("released", flush=True)
    except turnlock.LeaseRevoked as error:
        print("lost:", error.reason, flush=True)
"""


@mode("A13", bites=Bite(faults.ENDS_UNASKED, shows="released"))
def test_a13_a_holder_that_was_replaced_is_told_that_it_lost(state: Path) -> None:
    path = transcript(state)
    path.parent.mkdir(parents=True)
    with child(LOCKED, path) as late:
        late.expect("holding")
        assert turnlock.open_store(state).revoke("main/a")
        with turnlock.SessionLock(path, wait=0) as lock:
            late.tell()
            late.expect("lost: superseded")
            lock.check()


APPENDING = """
    try:
        with store.turn("main/a", turn_id="T1") as turn:
            turn.append(turnlock.user("mine"))
            files.stop_at("flock")  # past all that the process itself knows, before the guard
            turn.append(turnlock.user("too late"))
            print("appended", flush=True)
    except turnlock.LeaseRevoked as error:
        print("refused:", error.reason, flush=True)
"""


@mode("A14", bites=Bite(faults.NO_FENCE, shows="appended"))
def test_a14_a_holder_that_wakes_inside_its_append_writes_nothing(state: Path) -> None:
    store = turnlock.open_store(state)
    with child(STOPPING + APPENDING, state) as paused:
        stopped_itself(paused)
        assert store.revoke("main/a")
        with store.turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("successor"))
        before = transcript(state).read_bytes()
        paused.go_on()
        paused.expect("refused: operator")
    assert transcript(state).read_bytes() == before


JUMPING = """
    import time
    now, offset = time.time, 0.0
    time.time = lambda: now() + offset
    import turnlock
    for offset in map(float, sys.argv[2:]):
        store = turnlock.open_store(sys.argv[1])
        removed = [lock.removed for lock in store.clean_stale()]
        try:
            with store.turn("main/a", wait=0):
                print("taken", flush=True)
        except turnlock.SessionBusy:
            print("busy", removed, flush=True)
"""
_YEAR = 366 * 24 * 3600


@mode("A15", bites=Bite(faults.WALL_CLOCK_AGES, shows="taken"))
def test_a15_a_clock_that_is_wrong_robs_nobody(state: Path) -> None:
    offsets = (7200, -7200, _YEAR, -_YEAR)
    with holder(state) as process, child(JUMPING, state, *offsets) as jumping:
        for _ in offsets:
            jumping.expect("busy [False]")
        process.tell("still mine")
        process.expect("appended")


@mode("A15", bites=Bite(faults.FUTURE_IS_YOUNG, shows="SessionBusy"))
def test_a15_a_time_stamp_to_come_makes_no_lock_immortal(state: Path) -> None:
    with sleeper() as alive:
        lock(state, claim_of(alive.pid, age=-_YEAR), age=7200)
        with turnlock.open_store(state).turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("taken"))


@mode("A16", bites=Bite(faults.NO_GAPS, shows="revoked hold-limit"))
def test_a16_a_turn_is_not_charged_for_the_time_its_process_slept(state: Path) -> None:
    with holder(state, max_hold=2) as process:
        process.stop()
        time.sleep(4.1)  # twice as long as it may hold
        process.go_on()
        time.sleep(0.5)  # in which its watchdog wakes, and might take it for a hang
        process.tell("goes on")
        process.expect("appended")


CALLING = """
    import asyncio, turnlock
    async def main():
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
        try:
            async with turnlock.open_store(sys.argv[1]).turn("main/a") as turn:
                print("calling", flush=True)
                await turn.watch(reader.read(1), first=0.5)
        except turnlock.LeaseRevoked as error:
            print("gave up:", error.reason, flush=True)
    asyncio.run(main())
"""


@mode("A16", bites=Bite(faults.NO_WATCHDOG, shows="no line came"))
def test_a16_a_connection_that_died_in_its_sleep_is_noticed(state: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        child(CALLING, state, silent.getsockname()[1]) as process,
    ):
        process.expect("calling")
        process.stop()
        time.sleep(1.0)
        process.go_on()
        process.expect("gave up: model-limit")


@mode("A17", bites=Bite(faults.LOCK_BY_SPELLING, shows="taken"))
def test_a17_a_session_has_one_lock_by_whatever_name(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    linked = tmp_path / "another name for it"
    linked.symlink_to(state)
    with turnlock.open_store(state).turn("main/a"):
        (state / "agents/other").symlink_to("main")
        for root, key in ((linked, "main/a"), (state, "other/a"), (linked, "other/a")):
            with child(TAKE.replace("main/a", key), root, 0) as taker:
                taker.expect("SessionBusy")
        # Known as the same to this process too, or a second take by its holder would never end.
        with pytest.raises(turnlock.AlreadyHeld):
            turnlock.open_store(linked).turn("main/a", wait=None).__enter__()


STORY = """
    import subprocess, turnlock
    program = "import sys\\nimport turnlock\\n" + (
        "with turnlock.open_store(sys.argv[1]).turn('main/a', wait=0): pass"
    )
    try:
        store = turnlock.open_store(sys.argv[1])
        with store.turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("1"))
            other = [sys.executable, "-c", program, sys.argv[1]]
            refused = subprocess.run(other, stderr=subprocess.PIPE, text=True).stderr
            print("SessionBusy" if "SessionBusy" in refused else "taken twice", flush=True)
        print(len(list(store.read("main/a"))), "entries", flush=True)
    except turnlock.TurnlockError as error:
        print(type(error).__name__, flush=True)
"""
MOUNTED = {
    "tmpfs": "mount -t tmpfs -o size=1m none {state}",
    "ramfs": "mount -t ramfs none {state}",
    "overlay": "mount -t tmpfs none {state} && cd {state} && mkdir lower upper work && mount -t"
    " overlay -o lowerdir=lower,upperdir=upper,workdir=work none {state}",
}


@needs("namespaces")
@pytest.mark.parametrize("kind", MOUNTED)
@mode("A18", bites=Bite(faults.LOCKS_NOTHING, shows="taken twice"))
def test_a18_other_file_systems_keep_the_lock(state: Path, kind: str) -> None:
    state.mkdir()
    mount = in_shell(MOUNTED[kind].format(state=state) + ' && exec "$@"')
    with child(STORY, state, prefix=[*unshared(*MOUNTS), *mount]) as process:
        process.expect("SessionBusy")
        process.expect("3 entries")


@needs("namespaces")
@mode("A18", bites=Bite(faults.RAW_ERRORS, shows="OSError"))
def test_a18_a_file_system_that_is_read_only_is_said_to_be(state: Path) -> None:
    (state / "agents/main/sessions").mkdir(parents=True)
    mount = in_shell(f'mount --bind {state} {state} && mount -o remount,ro,bind {state} && "$@"')
    with child(STORY, state, prefix=[*unshared(*MOUNTS), *mount]) as process:
        process.expect("StoreError")


class Without(FileOps):
    """A file system that has no unnamed files, or no hard links."""

    def __init__(self, what: str) -> None:
        self._what = what

    def open(self, path: str, flags: int, mode: int = 0o600) -> Handle:
        if self._what == "unnamed files" and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return super().open(path, flags, mode)

    def link(self, source: str, path: str) -> None:
        if self._what == "links":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        super().link(source, path)

    def link_unnamed(self, handle: Handle, path: str, proc: Handle) -> None:
        if self._what == "links":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        super().link_unnamed(handle, path, proc)


@mode("A18", bites=Bite(faults.UNNAMED_OR_NOTHING, shows="StoreError"))
def test_a18_without_unnamed_files_named_ones_serve(state: Path) -> None:
    backend = FilesBackend(StateDirectory(str(state)), files=Without("unnamed files"))
    with Store(backend, location="test").turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("1"))
        with child(TAKE, state, 0) as taker:
            taker.expect("SessionBusy")
    assert [path.name for path in transcript(state).parent.iterdir()] == ["a.jsonl"]


@mode("A18", bites=())
def test_a18_without_hard_links_it_is_said_and_nothing_is_left(state: Path) -> None:
    backend = FilesBackend(StateDirectory(str(state)), files=Without("links"))
    with (
        pytest.raises(turnlock.StoreError, match="not permitted"),
        Store(backend, location="test").turn("main/a", wait=0),
    ):
        pass
    assert list(transcript(state).parent.iterdir()) == []


ODD: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "huge": lambda path: path.symlink_to("/proc/kcore"),
    "nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
}
LOOK = """
    import turnlock
    from turnlock.doctor.examine import examine
    store = turnlock.open_store(sys.argv[1])
    for name in sys.argv[2:]:
        try:
            with store.turn(f"main/{name}", wait=0):
                print(name, "taken", flush=True)
        except turnlock.TurnlockError as error:
            print(name, type(error).__name__, flush=True)
    print(len(examine(sys.argv[1], fix=True).locks), "locks", flush=True)
"""


@mode("A19", bites=Bite(faults.BLOCKING_OPEN, shows="no line came"))
def test_a19_whatever_lies_at_the_lock_path_nobody_blocks_on_it(state: Path) -> None:
    transcript(state).parent.mkdir(parents=True)
    for name, make in ODD.items():
        make(claim(state, name))
    with child(LOOK, state, *ODD) as process:
        for name in ODD:
            process.expect(f"{name} LockPathError")
        process.expect(f"{len(ODD)} locks")
    assert all(os.path.lexists(claim(state, name)) for name in ODD)


FORKED = """
    import ctypes, os, time, turnlock
    fork = os.fork if sys.argv[2] == "python" else ctypes.PyDLL(None).fork
    with turnlock.open_store(sys.argv[1]).turn("main/a", max_hold=float(sys.argv[3])) as turn:
        turn.append(turnlock.user("of the parent"))
        pid = fork()
        if pid == 0:
            while True:
                time.sleep(60)
        print(pid, flush=True)
        sys.stdin.readline()
"""


@contextmanager
def outlived_by_its_child(state: Path, fork: str, max_hold: float) -> Iterator[None]:
    """A holder forked and was killed; the child, which never executed anything, lives."""
    with child(FORKED, state, fork, max_hold) as parent:
        forked = int(parent.line())
        parent.kill()
        try:
            yield
            assert process_state(forked) in "SR", "it has to outlive its parent"
        finally:
            os.kill(forked, signal.SIGKILL)


@mode("A20", bites=Bite(faults.KEPT_IN_CHILD, shows="SessionBusy"))
def test_a20_a_forked_child_keeps_no_lock_of_its_dead_parent(state: Path) -> None:
    with (
        outlived_by_its_child(state, "python", 300),
        # The child lets go as the first thing that it does, but it may not have run yet.
        turnlock.open_store(state).turn("main/a", wait=PATIENCE) as turn,
    ):
        turn.append(turnlock.user("next"))


@mode("A20", bites=Bite(faults.NEVER_PAST_GRACE, shows="SessionBusy"))
def test_a20_a_fork_behind_pythons_back_keeps_it_until_its_limit(state: Path) -> None:
    with (
        outlived_by_its_child(state, "c", 0.3),
        turnlock.open_store(state).turn("main/a", wait=PATIENCE) as turn,
    ):
        turn.append(turnlock.user("next"))


LEAVING = """
    import os, turnlock
    with turnlock.open_store(sys.argv[1]).turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        pid = os.fork()
        if pid == 0:
            raise SystemExit(0)
        os.waitpid(pid, 0)
        print("its child has left the block", flush=True)
        sys.stdin.readline()
        turn.append(turnlock.user("2"))
    print("released", flush=True)
"""


@mode("A21", bites=Bite(faults.CHILD_BELIEVES, shows="taken"))
def test_a21_a_forked_child_releases_nothing_of_its_parent(state: Path) -> None:
    with child(LEAVING, state) as parent:
        parent.expect("its child has left the block")
        with child(TAKE, state, 0) as taker:
            taker.expect("SessionBusy")
        parent.tell()
        parent.expect("released")


@mode("A22", bites=Bite(faults.POSIX_LOCKS, shows="taken"))
def test_a22_opening_and_closing_its_files_costs_a_holder_nothing(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        before = flock_holder(claim(state).stat())
        for path in (claim(state), transcript(state)):
            with path.open("rb+"):
                pass
        with child(TAKE, state, 0) as taker:
            taker.expect("SessionBusy")
        assert flock_holder(claim(state).stat()) == before == os.getpid()


READING = """
    import turnlock
    entries = turnlock.open_store(sys.argv[1]).read("main/a")
    next(entries)
    print("reading", flush=True)
    sys.stdin.readline()
"""


@mode("A23", bites=Bite(faults.READERS_GUARD, shows="no line came|GuardTimeout|Error"))
def test_a23_readers_and_doctors_disturb_no_holder(state: Path) -> None:
    with holder(state) as process, child(READING, state) as reader:
        reader.expect("reading")
        reader.stop()
        for number in range(20):
            process.tell(f"entry {number}")
            report = examine(str(state), fix=True)
            assert [one.stale for one in report.locks] == [False]
            process.expect("appended")
        reader.go_on()
    assert len(list(turnlock.open_store(state).read("main/a"))) == 22


NO_MORE_THREADS = """
    import os, resource, time, turnlock
    state = sys.argv[1]
    with turnlock.open_store(state).turn("main/warm") as turn:
        turn.append(turnlock.user("what it imports is imported"))
    if os.geteuid() == 0:
        # Root has no limit: it goes on as nobody, in a directory that nobody may write.
        for path, _, _ in os.walk(state):
            os.chmod(path, 0o777)
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    store = turnlock.open_store(state)
    def take():
        try:
            with store.turn("main/a", wait=0, max_hold=0.3) as turn:
                turn.append(turnlock.user("mine"))
                while not turn.revoked:
                    time.sleep(0.001)
        except turnlock.LeaseRevoked as error:
            print(error.reason, flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    take()
    print(*os.listdir(f"{state}/agents/main/sessions"), flush=True)
    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
    take()
"""


@mode("A24", bites=Bite(faults.UNWATCHED, shows="no line came"))
def test_a24_without_a_thread_to_watch_over_it_nothing_is_taken() -> None:
    # Not in pytest's own directory, which nobody else may enter.
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        with child(NO_MORE_THREADS, directory) as process:
            process.expect("StoreError")
            process.expect("warm.jsonl")
            process.expect("hold-limit")


@mode("A24", bites=Bite(faults.NO_WATCHDOG, shows="did not come to that"))
def test_a24_a_second_thread_that_fails_leaves_the_first_ones_watch_alone(state: Path) -> None:
    path = transcript(state)
    path.parent.mkdir(parents=True)
    shared = turnlock.SessionLock(path, wait=0, max_hold=2)
    holding, ended = threading.Event(), threading.Event()

    def hang() -> None:
        with suppress(turnlock.LeaseRevoked), shared:
            holding.set()
            ended.wait(3 * PATIENCE)

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()
    assert holding.wait(PATIENCE)
    with pytest.raises(turnlock.SessionBusy), shared:
        pass
    eventually(lambda: not claim(state).exists())
    # The claim goes before the line of this process does: so the next one waits for its turn.
    with turnlock.SessionLock(path, wait=PATIENCE) as following:
        following.check()
    ended.set()
    thread.join()


WAITING = """
    import os, time, turnlock
    from turnlock.backends.files.line import count_in_line
    state, waiters, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    transcript = f"{state}/agents/main/sessions/a.jsonl"
    pids = []
    turnlock.open_store(state)  # what it imports, imported once
    for _ in range(waiters):
        pid = fork()
        if pid == 0:
            with turnlock.open_store(state).turn("main/a", wait=None):
                os._exit(0)
        pids.append(pid)
    while count_in_line([transcript]).get(transcript) != waiters:
        time.sleep(0.01)
    def spent():
        # The CPU clock of another process.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)
    time.sleep(seconds / 3)  # what a start costs is no matter of waiting
    before = spent()
    time.sleep(seconds)
    print((spent() - before) / seconds, flush=True)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
"""


@mode("A25", bites=Bite(faults.HOT_WAITERS, shows="of a processor"))
def test_a25_fifty_waiters_sleep(state: Path) -> None:
    with holder(state), child(FORKING + WAITING, state, 50, 3) as waiting:
        share = float(waiting.line(LONG_PATIENCE))
        # A thousandth of one for each; those that poll take all that there is.
        assert share < 0.05, f"{share:.0%} of a processor"


def has_spoken(process: Child, patience: float = 0) -> bool:
    assert process.process.stdout is not None
    return bool(select.select([process.process.stdout], [], [], patience)[0])


def in_order_of_speaking(first: Child, second: Child) -> tuple[Child, Child]:
    eventually(lambda: has_spoken(first) or has_spoken(second))
    return (first, second) if has_spoken(first) else (second, first)


@mode("A27", bites=Bite(faults.NEVER_PAST_GRACE, shows="did not come to that"))
def test_a27_past_its_own_limit_a_stopped_holder_is_replaced_once(state: Path) -> None:
    with (
        holder(state, max_hold=0.3) as stopped,
        child(TAKE, state, 60) as first,
        child(TAKE, state, 60) as second,
    ):
        stopped.stop()
        taker, other = in_order_of_speaking(first, second)
        taker.expect("taken")
        assert not has_spoken(other), "two took it over"
        taker.tell()
        taker.expect("released")
        other.expect("taken")
        stopped.tell("too late")
        stopped.go_on()
        assert stopped.line().startswith("revoked")
    reasons = [
        entry.get("data", {}).get("reason") for entry in turnlock.open_store(state).read("main/a")
    ]
    assert reasons.count("hold-limit") == 1


@mode("A28", bites=Bite(faults.BUSY_IS_UPSTREAM, shows="upstream_error"))
def test_a28_a_busy_session_asks_no_model_and_is_called_busy(tmp_path: Path) -> None:
    from tests.gateway import serving

    async def test() -> None:
        model = serving.Scripted(serving.echo)
        limits = f"wait = 0.2\n{serving.FAST}"
        async with (
            serving.served(tmp_path, model, limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            with holder(gateway.location):
                refused = await serving.failure(client, "now")
                assert serving.facts(refused)["code"] == "conversation_locked"
                assert model.calls == []
            assert await serving.ask(client, "again") == "re: again"
            assert len(model.calls) == 1

    serving.run(test())


BORN_AT_ONCE = """
    store = turnlock.open_store(state, durability="none")
    def one(number, round):
        if number == 0:
            store.clean_stale()
        else:
            with store.turn(f"round{round}/{number}", wait=0) as turn:
                turn.append(turnlock.user("born"))
"""


@mode("A30", bites=Bite(faults.DIRECTORY_RACE, shows="did not start"))
def test_a30_of_many_that_start_at_once_none_is_lost(state: Path) -> None:
    with child(FORKING + AT_ONCE + BORN_AT_ONCE + ROUNDS, state, 51, 10) as burst:
        failures = int(burst.line(LONG_PATIENCE))
        assert failures == 0, f"{failures} did not start"
    assert len(list(turnlock.open_store(state).sessions())) == 500


BIG = """
    import turnlock
    def read():
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/small", wait=0) as turn:
        turn.append(turnlock.user("imports are done"))
    before = read()
    for _ in range(20):
        with store.turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("next"))
    print(read() - before, flush=True)
"""


@mode("A31", bites=Bite(faults.WHOLE_FILE, shows="bytes read"))
def test_a31_a_take_reads_the_end_of_a_transcript_however_long(state: Path) -> None:
    store = turnlock.open_store(state, durability="none")
    for _ in range(25):
        with store.turn("main/a") as turn:
            turn.append(*[turnlock.user("x" * 100_000)] * 20)
    path = transcript(state)
    assert path.stat().st_size > 50_000_000
    try:
        with child(BIG, state) as process:
            count = int(process.line())
        assert count < 5_000_000, f"{count} bytes read for 20 turns"
    finally:
        path.unlink()


waits(
    "A26",
    needs="inbox",
    why="a message that waits for longer than its limit is refused with what holds it and"
    " until when; to be kept and answered later it needs a place",
)
waits("A29", needs="inbox", why="what arrives during a turn has no place outside of the lock yet")
