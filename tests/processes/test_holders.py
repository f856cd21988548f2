"""Real processes: killed, stopped, forked, and many at a barrier."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

import turnlock
from tests.helpers import child, eventually, holder, process_state
from turnlock.transcript.entries import Entry

pytestmark = pytest.mark.processes


def summary(state: Path, key: str = "main/a") -> list[tuple[int, str]]:
    """(epoch, kind) of every entry; kind is the text of a message, or a marker's reason."""
    return [(entry["epoch"], _kind(entry)) for entry in turnlock.open_store(state).read(key)]


def _kind(entry: Entry) -> str:
    if "message" in entry:
        return str(entry["message"]["content"][0]["text"])
    return str(entry["data"].get("reason") or entry["customType"])


def assert_contiguous(entries: list[tuple[int, str]]) -> None:
    """Epochs rise, and each has one opening first and one terminal entry last."""
    epochs = [epoch for epoch, _ in entries]
    assert epochs == sorted(epochs)
    for epoch in set(epochs):
        kinds = [kind for number, kind in entries if number == epoch]
        terminal = [kind for kind in kinds if kind in ("turnlock:end", "interrupted", "hold-limit")]
        assert kinds[0] == "turnlock:turn", entries
        assert terminal == [kinds[-1]], entries


def test_a_killed_holder_is_reclaimed_and_marked_once(state: Path) -> None:
    with holder(state, "T1") as process:
        process.kill()
        with turnlock.open_store(state).turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("next"))
    assert summary(state) == [
        (1, "turnlock:turn"),
        (1, "from T1"),
        (1, "interrupted"),
        (2, "turnlock:turn"),
        (2, "next"),
        (2, "turnlock:end"),
    ]


WAIT = """
    import time, turnlock
    store = turnlock.open_store(sys.argv[1])
    print("waiting", flush=True)
    with store.turn("main/a", turn_id="W") as turn:
        got = time.monotonic()
        turn.append(turnlock.user("waited"))
    print(got, flush=True)
"""


def test_a_waiter_gets_what_a_killed_holder_had(state: Path) -> None:
    with holder(state) as process, child(WAIT, state) as waiter:
        waiter.expect("waiting")
        # Asleep in its wait, not on its way there.
        eventually(lambda: process_state(waiter.pid) == "S")
        process.kill()
        killed = time.monotonic()
        got = float(waiter.line())
        # The bound is that of the invariant (I7); how fast it is, a benchmark says.
        assert got - killed < 1.0
    assert_contiguous(summary(state))


def test_a_dead_parent_that_was_not_reaped_is_dead(state: Path) -> None:
    with holder(state) as process:
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: process_state(process.pid) == "Z")
        # Its other threads may be on their way out still; nobody reaps it, though.
        with turnlock.open_store(state).turn("main/a", wait=10):
            assert process_state(process.pid) == "Z"
    assert summary(state)[-1] == (1, "interrupted")


def test_a_stopped_holder_is_fenced_and_cannot_write_when_it_wakes(state: Path) -> None:
    with holder(state, "T1", max_hold=0.5) as process:
        process.stop()
        with turnlock.open_store(state).turn("main/a", wait=20) as turn:
            turn.append(turnlock.user("successor"))
        before = (state / "agents/main/sessions/a.jsonl").read_bytes()
        process.tell("late")
        process.go_on()
        line = process.line()
        assert line.startswith("revoked"), line
        assert process.ended() == 3
    assert (state / "agents/main/sessions/a.jsonl").read_bytes() == before
    assert summary(state) == [
        (1, "turnlock:turn"),
        (1, "from T1"),
        (1, "hold-limit"),
        (2, "turnlock:turn"),
        (2, "successor"),
        (2, "turnlock:end"),
    ]


def test_without_the_fence_the_stopped_holder_would_write(state: Path) -> None:
    """The fault bites: the same story without the check, and the late entry is there."""
    naive = HOLD_UNFENCED
    with child(naive, state, 0.5, "T1") as process:
        process.expect("holding")
        process.stop()
        with turnlock.open_store(state).turn("main/a", wait=20) as turn:
            turn.append(turnlock.user("successor"))
        process.tell("late")
        process.go_on()
        process.expect("appended")
    assert (1, "late") in summary(state)


HOLD_UNFENCED = """
    import turnlock
    from turnlock.backends.files import FilesBackend
    from turnlock.backends.files.claims import Claims
    Claims.check = lambda self, lease: None
    FilesBackend._make_durable = lambda self, lease, transcript: None
    def write(self, lease, transcript, data, after):
        self._files.write(transcript, data)
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a", max_hold=float(sys.argv[2]), turn_id=sys.argv[3]) as turn:
        turn.append(turnlock.user("from " + sys.argv[3]))
        turn._core.lease.check_writable = lambda now: None
        FilesBackend._write = write
        print("holding", flush=True)
        for line in sys.stdin:
            turn.append(turnlock.user(line.strip()))
            print("appended", flush=True)
"""


def test_revocation_by_another_process_reaches_the_holder(state: Path) -> None:
    with holder(state, "T1") as process:
        assert turnlock.open_store(state).revoke("main/a")
        process.tell("late")
        process.expect("revoked operator")
    assert summary(state)[-1] == (1, "operator")


HUNG = """
    import asyncio, turnlock
    async def main():
        store = turnlock.open_store(sys.argv[1])
        try:
            async with store.turn("main/a", turn_id="T1") as turn:
                await turn.append(turnlock.user("1"))
                print("holding", flush=True)
                await asyncio.Event().wait()
        except turnlock.LeaseRevoked as error:
            print("revoked", error.reason, flush=True)
    asyncio.run(main())
"""


def test_a_hung_task_of_another_process_is_cancelled_by_an_operator(state: Path) -> None:
    with child(HUNG, state) as process:
        process.expect("holding")
        assert turnlock.open_store(state).revoke("main/a")
        process.expect("revoked operator")


FORK = r"""
    import os, time, turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("parent"))
        pid = os.fork()
        if pid == 0:
            try:
                turn.append(turnlock.user("child"))
            except turnlock.LeaseRevoked as error:
                # One write each: the two processes share the pipe.
                os.write(1, f"refused {error.reason}\n".encode())
            sys.stdin.readline()
            os._exit(0)
        os.write(1, f"forked {pid}\n".encode())
        sys.stdin.readline()
"""


def test_a_fork_that_outlives_its_parent_keeps_no_lock(state: Path) -> None:
    with child(FORK, state) as process:
        said = {process.line(), process.line()}
        assert "refused forked" in said
        (forked,) = (int(line.split()[1]) for line in said if line.startswith("forked"))
        process.kill()
        assert process_state(forked) in ("S", "R"), "it has to outlive its parent"
        with turnlock.open_store(state).turn("main/a", wait=0) as turn:
            turn.append(turnlock.user("next"))
        os.kill(forked, signal.SIGKILL)
    assert (1, "interrupted") in summary(state)
    assert not any(kind == "child" for _, kind in summary(state))


LEAVE = """
    import os, turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/a", turn_id="T1") as turn:
        pid = os.fork()
        if pid == 0:
            raise SystemExit(0)
        os.waitpid(pid, 0)
        turn.append(turnlock.user("parent goes on"))
        print(len(store.locks()), store.locks()[0].stale, flush=True)
"""


def test_a_child_that_leaves_the_block_releases_nothing_of_its_parent(state: Path) -> None:
    with child(LEAVE, state) as process:
        process.expect("1 False")
        assert process.ended() == 0
    assert summary(state) == [(1, "turnlock:turn"), (1, "parent goes on"), (1, "turnlock:end")]


FORK_MEMORY = r"""
    import os, threading, turnlock
    store = turnlock.open_store("memory:")
    over = threading.Event()
    sys.setswitchinterval(1e-5)
    def work(name):
        while not over.is_set():
            with store.turn(f"main/{name}") as turn:
                turn.append(turnlock.user("x" * 1000))
    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads: thread.start()
    for number in range(40):
        with store.turn(f"main/m{number}"):
            pid = os.fork()
            if pid == 0: os._exit(0)
            os.waitpid(pid, 0)
    over.set()
    for thread in threads: thread.join()
    print("done", flush=True)
"""


def test_a_fork_does_not_hang_on_locks_of_threads_that_it_has_not(state: Path) -> None:
    with child(FORK_MEMORY) as process:
        process.expect("done")


EXEC = """
    import os, turnlock
    store = turnlock.open_store(sys.argv[1])
    block = store.turn("main/a", turn_id="T1")
    turn = block.__enter__()
    turn.append(turnlock.user("before"))
    again = (
        "import sys, turnlock\\n"
        "with turnlock.open_store(sys.argv[1]).turn('main/a', wait=0) as turn:\\n"
        "    turn.append(turnlock.user('after'))\\n"
        "print('done')\\n"
    )
    os.execv(sys.executable, [sys.executable, "-c", again, sys.argv[1]])
"""


def test_a_process_that_execs_itself_does_not_block_itself(state: Path) -> None:
    with child(EXEC, state) as process:
        process.expect("done")
    assert (1, "interrupted") in summary(state)


WORKER = """
    import os, random, turnlock
    state, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = turnlock.open_store(state, durability="none")
    chance = random.Random(name)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(rounds):
        with store.turn("main/a", wait=60) as turn:
            mark = os.path.join(state, "inside")
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            turn.append(turnlock.user(f"{name}-{number}-a"))
            turn.append(turnlock.user(f"{name}-{number}-b"))
            os.unlink(mark)
            if chance.random() < 0.04:
                os.kill(os.getpid(), 9)
    print("done", flush=True)
"""


def test_eight_processes_at_a_barrier_with_holders_dying(state: Path) -> None:
    state.mkdir()
    workers = []
    try:
        for number in range(8):
            process = child(WORKER, state, f"w{number}", 15)
            workers.append((process, process.__enter__()))
        for _, worker in workers:
            worker.expect("ready")
        for _, worker in workers:
            worker.tell()
        codes = [worker.process.wait(60) for _, worker in workers]
        errors = [worker.process.stderr.read() for _, worker in workers if worker.process.stderr]
    finally:
        for process, _ in workers:
            process.__exit__(None, None, None)
    # Each is either through or killed by itself; a FileExistsError would be a second holder.
    assert set(codes) <= {0, -9}, errors
    assert -9 in codes, "the holders have to die for this to mean anything"
    with turnlock.open_store(state).turn("main/a", wait=0):
        pass
    entries = summary(state)
    assert_contiguous(entries)
    texts = [kind for _, kind in entries if kind.startswith("w")]
    assert len(texts) == len(set(texts))
    assert len([kind for _, kind in entries if kind == "interrupted"]) == codes.count(-9)


REMOVER = """
    import os, turnlock
    store = turnlock.open_store(sys.argv[1], durability="none")
    done = 0
    print("ready", flush=True)
    sys.stdin.readline()
    while done < 20:
        try:
            with store.turn("main/a", wait=60) as turn:
                for letter in "ab":
                    turn.append(turnlock.user(f"{sys.argv[2]}-{done}-{letter}"))
                    print("ack", f"{sys.argv[2]}-{done}-{letter}", flush=True)
            done += 1
        except turnlock.LeaseRevoked:
            done += 1
    print("done", flush=True)
"""


def test_lock_files_removed_by_hand_lose_and_mix_nothing(state: Path) -> None:
    lock = state / "agents/main/sessions/a.jsonl.lock"
    acknowledged: list[str] = []
    with child(REMOVER, state, "x") as first, child(REMOVER, state, "y") as second:
        for worker in (first, second):
            worker.expect("ready")
            worker.tell()
        for worker in (first, second):
            while (line := worker.line()) != "done":
                acknowledged.append(line.split()[1])
                lock.unlink(missing_ok=True)
    with turnlock.open_store(state).turn("main/a", wait=0):
        pass
    entries = summary(state)
    assert_contiguous(entries)
    texts = [kind for _, kind in entries]
    assert set(acknowledged) <= set(texts)
    assert "interrupted" in texts, "no holder was ever robbed: the test proves nothing"


def test_a_process_stopped_inside_the_guard_is_named(state: Path) -> None:
    code = """
        import fcntl, turnlock
        from turnlock.backends.files.guard import Guard
        store = turnlock.open_store(sys.argv[1])
        with store.turn("main/a", turn_id="T1") as turn:
            turn.append(turnlock.user("1"))
            real = store._backend._claims.check
            def stop_here(lease):
                print("inside", flush=True)
                sys.stdin.readline()
                real(lease)
            store._backend._claims.check = stop_here
            turn.append(turnlock.user("2"))
            print("went on", flush=True)
            store._backend._claims.check = real
    """
    store = turnlock.open_store(state)
    with child(code, state) as process:
        process.expect("inside")
        process.stop()
        with pytest.raises(turnlock.GuardTimeout) as caught:
            store.revoke("main/a")
        assert caught.value.pid == process.pid
        assert caught.value.state is not None
        assert caught.value.state.startswith("T")
        assert f"kill -CONT {process.pid}" in str(caught.value)
        process.go_on()
        process.tell()
        process.expect("went on")
        assert process.ended() == 0
    assert summary(state)[-1] == (1, "turnlock:end")


UNWATCHED = """
    import turnlock
    from turnlock.backends import TakeRequest
    from turnlock.session import parse_key
    backend = turnlock.open_store(sys.argv[1])._backend
    lease = backend.take(parse_key("main/a"), TakeRequest("T1", 0.05))
    print("holding", flush=True)
    sys.stdin.readline()
"""


def test_an_over_limit_claim_of_a_live_process_is_no_prey_of_clean_up(state: Path) -> None:
    with child(UNWATCHED, state) as process:
        process.expect("holding")
        (record,) = eventually(
            lambda: [r for r in turnlock.open_store(state).locks() if r.reasons == ("over-limit",)]
        )
        assert not record.stale
        assert not turnlock.open_store(state).clean_stale()[0].removed
        assert json.loads(Path(record.path).read_text())["turnId"] == "T1"
