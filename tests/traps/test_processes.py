"""Processes: C code that holds the GIL, forks, pools, and every way for a holder to end (A20, A21).

What is in tests/processes already (a child that leaves the block, ``execv``, a child that outlives
its killed parent) is not repeated here.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

import turnlock
from tests.helpers import child, eventually, kinds, process_state
from turnlock.store import open_store

pytestmark = pytest.mark.processes

HOLDS_THE_GIL = """
    import ctypes, os, turnlock
    store = turnlock.open_store(sys.argv[1])
    # Through PyDLL a call of C keeps the GIL: no thread of this process runs, its watchdog neither.
    libc = ctypes.PyDLL(None)
    buffer = ctypes.create_string_buffer(1)
    try:
        with store.turn("main/a", max_hold=1.0, turn_id="T1") as turn:
            turn.append(turnlock.user("1"))
            print("blocking", flush=True)
            libc.read(0, buffer, 1)
            print("awake", flush=True)
            turn.append(turnlock.user("late"))
    except turnlock.LeaseRevoked as error:
        print("revoked", error.reason, flush=True)
"""


def test_a_waiter_of_another_process_frees_what_c_code_with_the_gil_holds(state: Path) -> None:
    """C8, E7. The holder's own watchdog cannot run: two seconds past the limit the waiter acts."""
    with child(HOLDS_THE_GIL, state) as process:
        process.expect("blocking")
        with open_store(state).turn("main/a", wait=20) as turn:
            turn.append(turnlock.user("went on"))
        process.tell("x")
        process.expect("awake")
        process.expect("revoked hold-limit")
        assert process.ended() == 0
    seen = kinds(open_store(state))
    assert seen == ["turn", "user:1", "hold-limit", "turn", "user:went on", "end"]


FORKS = """
    import os, turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a", turn_id="T1") as turn:
        pid = os.fork()
        if pid == 0:
            %s
        assert os.waitpid(pid, 0)[1] == %d
        print("child is gone", flush=True)
        sys.stdin.readline()
        turn.append(turnlock.user("parent"))
"""


@pytest.mark.parametrize(
    ("ends", "status"),
    [("os._exit(0)", 0), ("os.kill(os.getpid(), 9)", 9), ("sys.exit(3)", 3 << 8)],
    ids=["_exit", "killed", "sys.exit"],
)
def test_a_child_that_ends_leaves_its_parent_the_lock(state: Path, ends: str, status: int) -> None:
    """A21: whichever way the child ends, a contender is still refused."""
    with child(FORKS % (ends, status), state) as process:
        process.expect("child is gone")
        with pytest.raises(turnlock.SessionBusy), open_store(state).turn("main/a", wait=0):
            pass
        process.tell()
        assert process.ended() == 0
    assert kinds(open_store(state)) == ["turn", "user:parent", "end"]


CHILD_TAKES = """
    import os, turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a"):
        pid = os.fork()
        if pid == 0:
            assert store.statistics().held == 0
            with store.turn("main/b") as turn:
                turn.append(turnlock.user("child"))
            try:
                with store.turn("main/a", wait=0):
                    os._exit(1)
            except turnlock.SessionBusy as error:
                os._exit(0 if error.holder_pid == os.getppid() else 2)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_a_child_has_the_store_and_none_of_its_turns(state: Path) -> None:
    with child(CHILD_TAKES, state) as process:
        process.expect("0")
    assert kinds(open_store(state), "main/b") == ["turn", "user:child", "end"]


ENDS = {
    "os._exit": "os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "SIGTERM": "os.kill(os.getpid(), 15)",
    "abort": "os.abort()",
    "sys.exit in a thread": "import threading; threading.Thread(target=in_thread).start()",
    "the end with a daemon thread inside": "daemon()",
}
# Those after which nothing of Python ran any more: the next turn writes their markers.
SUDDEN = {"os._exit", "SIGTERM", "abort", "the end with a daemon thread inside"}

END = """
    import os, threading, turnlock
    store = turnlock.open_store(sys.argv[1])
    def in_thread():
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            sys.exit(1)
    def daemon():
        inside = threading.Event()
        def hold():
            with store.turn("main/a") as turn:
                turn.append(turnlock.user("1"))
                inside.set()
                threading.Event().wait()
        threading.Thread(target=hold, daemon=True).start()
        inside.wait()
    if sys.argv[2] == "here":
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            %s
    else:
        %s
"""


@pytest.mark.parametrize("end", ENDS)
def test_whichever_way_a_holder_ends_its_session_is_free_and_marked(state: Path, end: str) -> None:
    where = "elsewhere" if "thread" in end else "here"
    with child(END % (ENDS[end], ENDS[end]), state, where) as process:
        process.ended()
    with open_store(state).turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("next"))
    reason = "interrupted" if end in SUDDEN else "cancelled"
    assert kinds(open_store(state)) == ["turn", "user:1", reason, "turn", "user:next", "end"]


USE_POOLS = """
import sys
sys.path.insert(0, sys.argv[2])
import concurrent.futures, multiprocessing
import turnlock_pool_work as work

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[3])
    with work.store.turn("main/b"):
        with context.Pool(2) as pool:
            assert sorted(pool.map(work.work, range(6))) == list(range(6))
            pool.close()
            pool.join()
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert sorted(pool.map(work.work, range(6))) == list(range(6))
    print("done", flush=True)
"""

POOL_WORK = """
import sys
import turnlock

store = turnlock.open_store(sys.argv[1])


def work(number):
    with store.turn("main/a", wait=30) as turn:
        turn.append(turnlock.user("x"))
    return number
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_store_that_is_a_global_works_in_the_workers_of_a_pool(
    state: Path, tmp_path: Path, method: str
) -> None:
    """Of `multiprocessing` and of `concurrent.futures`, while the parent holds another session."""
    (tmp_path / "turnlock_pool_work.py").write_text(POOL_WORK)
    program = tmp_path / "use_pools.py"
    program.write_text(USE_POOLS)
    code = f"""
        import runpy
        sys.argv = [{str(program)!r}, *sys.argv[1:]]
        import multiprocessing
        multiprocessing.set_executable(sys.executable)
        runpy.run_path({str(program)!r}, run_name="__main__")
    """
    with child(code, state, tmp_path, method) as process:
        process.expect("done")
        assert process.ended() == 0
    assert kinds(open_store(state)) == ["turn", "user:x", "end"] * 12
    assert not open_store(state).locks()


AT_EXIT = """
    import atexit, threading, turnlock
    store = turnlock.open_store(sys.argv[1])
    class Late:
        def __del__(self):
            with store.turn("main/a") as turn:
                turn.append(turnlock.user("del"))
    def at_exit():
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("atexit"))
    atexit.register(at_exit)
    if sys.argv[2] == "warm":
        with store.turn("main/b"):
            pass
    kept = threading.local()
    kept.late = Late()
    del kept
"""


@pytest.mark.parametrize("used", ["warm", "cold"])
def test_turns_at_the_interpreters_end_neither_hang_nor_complain(state: Path, used: str) -> None:
    """``cold``: no thread of ours runs yet, and from Python 3.12 on none can be started then."""
    with child(AT_EXIT, state, used) as process:
        assert process.ended() == 0
        assert process.process.stderr is not None
        assert process.process.stderr.read() == b""
    assert kinds(open_store(state)) == ["turn", "user:del", "end", "turn", "user:atexit", "end"]


HELD_AT_EXIT = """
    import asyncio, turnlock
    store = turnlock.open_store(sys.argv[1])
    if sys.argv[2] == "block":
        block = store.turn("main/a")
        turn = block.__enter__()
        turn.append(turnlock.user("1"))
    else:
        async def hang():
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("1"))
                loop.stop()
                await asyncio.Event().wait()
        loop = asyncio.new_event_loop()
        task = loop.create_task(hang())
        loop.run_forever()
        task._log_destroy_pending = False
        if sys.argv[2] == "closed":
            loop.close()
"""


@pytest.mark.parametrize("kind", ["block", "stopped", "closed"])
def test_a_turn_that_is_open_at_the_interpreters_end_holds_it_up_by_nothing(
    state: Path, kind: str
) -> None:
    with child(HELD_AT_EXIT, state, kind) as process:
        assert process.ended() == 0
    with open_store(state).turn("main/a", wait=0):
        pass
    assert kinds(open_store(state))[:2] == ["turn", "user:1"]
    assert kinds(open_store(state))[2] in ("interrupted", "cancelled")


ROUND = """
    import asyncio, turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
    async def main():
        async with store.turn("main/a") as turn:
            await turn.append(turnlock.user("2"))
    asyncio.run(main())
    try:
        with store.turn("main/a", max_hold=0.05) as turn:
            while not turn.revoked:
                pass
    except turnlock.LeaseRevoked as error:
        print(error.reason, flush=True)
    store.close()
"""


@pytest.mark.parametrize("options", ["-O", "-OO", "-X dev", "-W error", "-b -b -W error -X dev"])
def test_the_interpreters_options_change_nothing(state: Path, options: str) -> None:
    """``-O`` strips assertions, ``-OO`` docstrings; ``-X dev`` and ``-W error`` complain more."""
    run = f"""
        import subprocess
        done = subprocess.run([sys.executable, *{options.split()!r}, "-c", {_program()!r},
            sys.argv[1]], capture_output=True, text=True)
        print(done.returncode, flush=True)
        print(repr([line for line in done.stderr.splitlines() if not line.startswith(" ")]))
        sys.stdout.write(done.stdout)
    """
    with child(run, state) as process:
        process.expect("0")
        assert "revoked turn" in process.line()
        process.expect("hold-limit")
    seen = kinds(open_store(state))
    assert seen == ["turn", "user:1", "end", "turn", "user:2", "end", "turn", "hold-limit"]


def _program() -> str:
    return "import sys\n" + textwrap.dedent(ROUND)


SWITCHING = """
    import threading, turnlock
    sys.setswitchinterval(1e-6)
    store = turnlock.open_store(sys.argv[1], durability="none")
    barrier, inside, wrong = threading.Barrier(8), [], []
    def work():
        barrier.wait()
        for _ in range(10):
            with store.turn("main/a") as turn:
                inside.append(1)
                turn.append(turnlock.user("x"))
                if len(inside) != 1: wrong.append(1)
                inside.pop()
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(len(wrong), flush=True)
"""


def test_eight_threads_that_are_switched_all_the_time_keep_their_turns_apart(state: Path) -> None:
    with child(SWITCHING, state) as process:
        process.expect("0")
    assert kinds(open_store(state)) == ["turn", "user:x", "end"] * 80


DROPPED = """
    import gc, turnlock
    store = turnlock.open_store(sys.argv[1])
    def drop():
        block = store.turn("main/a", max_hold=float(sys.argv[2]))
        block.me = [block]
        block.__enter__().append(turnlock.user("1"))
    drop()
    gc.collect()
    print(store.statistics().held, flush=True)
    sys.stdin.readline()
"""


def test_a_block_that_is_dropped_without_being_left_is_ended_by_its_limit(state: Path) -> None:
    with child(DROPPED, state, 0.2) as process:
        process.expect("1")
        with open_store(state).turn("main/a", wait=20):
            pass
        assert process_state(process.pid) == "S", "it lives, and its own watchdog did it"
    assert kinds(open_store(state)) == ["turn", "user:1", "hold-limit"]


SUBINTERPRETER = """
import _interpreters
inside = f'''
import sys
sys.path[:] = {sys.path!r}
import turnlock
store = turnlock.open_store({sys.argv[1]!r})
try:
    with store.turn("main/a"):
        pass
except turnlock.StoreError as error:
    assert "no thread" in str(error), error
else:
    raise SystemExit("it had the session")
'''
failed = _interpreters.exec(_interpreters.create(), inside)
print("error", failed, flush=True)
"""


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the module is named so from 3.13 on")
def test_a_subinterpreter_gets_an_error_and_leaves_no_lock(state: Path) -> None:
    """Not supported: no daemon threads there, so no watchdog. It says so, and takes nothing."""
    with child(SUBINTERPRETER, state) as process:
        process.expect("error None")
    assert eventually(lambda: not open_store(state).locks())
