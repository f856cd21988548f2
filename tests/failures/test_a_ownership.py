"""A. Who owns the lock: identity and staleness."""

from __future__ import annotations

import errno
import json
import os
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import turnlock
from tests.doctor.planting import claim_of, lock, make_old, sleeper, start_time, undead
from tests.helpers import HOLD, PATIENCE, child, eventually, holder, process_state
from tests.mutants import faults
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps, Handle
from turnlock.doctor.examine import examine
from turnlock.events import LockReclaimed
from turnlock.store import Store

from .declaring import Bite, mode, needs, waits
from .namespaces import MOUNTS, PIDS, in_shell, unshared
from .programs import STOPPING, TAKE, claim, stopped_itself

if TYPE_CHECKING:
    # What a gateway needs takes longer to import than most of these tests to run.
    from tests.gateway.serving import Served


@mode("A1", bites=Bite(faults.NO_WATCHDOG, shows="no answer"))
def test_a1_a_hung_model_call_in_a_live_process_gives_the_session_back(tmp_path: Path) -> None:
    from tests.gateway import serving

    with serving.process(tmp_path, limits="first_token = 0.5\nturn = 30.0") as (gateway, process):
        hung = threading.Thread(target=lambda: reply_of(gateway, "/hang"))
        hung.start()
        eventually(gateway.claim().exists)
        assert "hello" in reply_of(gateway, "hello")
        hung.join()
        assert process.process.poll() is None, "without a restart"
        assert [one["reason"] for one in gateway.markers()] == ["model-limit"]


def reply_of(gateway: Served, text: str) -> str:
    """What a gateway answers in session ``a``, or which error."""
    import openai

    from tests.gateway import serving

    client = gateway.client_sync(max_retries=0, timeout=PATIENCE)
    try:
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
@mode("A9", bites=Bite(faults.READ_ERROR_IS_EMPTY, shows="unreadable"))
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


@mode("A10", bites=Bite(faults.NAMED_BEFORE_WRITTEN, shows="LockPathError"))
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
        store.turn("main/a").__enter__()
        answer: Exception | None = None
    except Exception as error:  # noqa: BLE001 - what has no type of ours is what must not come
        answer = error
    assert isinstance(answer, turnlock.LockPathError), repr(answer)
    (found,) = examine(str(state)).locks
    assert (found.stale, found.reasons) == (False, ("unreadable",))
    make_old(path, 3600)
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("taken"))


waits(
    "A26",
    needs="inbox",
    why="a message that waits for longer than its limit is refused with what holds it and"
    " until when; to be kept and answered later it needs a place",
)
waits("A29", needs="inbox", why="what arrives during a turn has no place outside of the lock yet")
