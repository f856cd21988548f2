"""C. Watchdogs and recovery that do harm or nothing."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.cli import running
from tests.doctor.planting import killed_holder, reasons
from tests.helpers import PATIENCE, child, eventually
from tests.mutants import faults
from tests.turns.test_watchdog import tick
from turnlock.backends.files import FilesBackend, StateDirectory
from turnlock.backends.files.fileops import FileOps
from turnlock.backends.memory import MemoryBackend
from turnlock.clock import SystemClock
from turnlock.doctor.examine import examine
from turnlock.events import RevocationFailed, TurnRevoked
from turnlock.models import Delta, Finished, Message
from turnlock.store import Store
from turnlock.testing import ManualClock
from turnlock.turns.aio import AsyncTurn
from turnlock.turns.queue import queues

from .declaring import Bite, mode
from .programs import STOPPING, claim, stopped_itself, transcript
from .test_b_teardown import deaf, run


@contextmanager
def hung(store: Store, key: str = "main/a", **limits: Any) -> Iterator[None]:
    """A turn that has written something and hangs, in a thread of its own, until the end."""
    begun, over = threading.Event(), threading.Event()

    def hang() -> None:
        try:
            with store.turn(key, **limits) as turn:
                turn.append(turnlock.user("1"))
                begun.set()
                over.wait(3 * PATIENCE)
        except turnlock.LeaseRevoked:
            pass

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join()


async def for_ever() -> AsyncIterator[str]:
    yield "the first word"
    await asyncio.Event().wait()


async def says_nothing(turn: AsyncTurn) -> None:
    await turn.watch(asyncio.Event().wait(), first=0.3)


async def says_no_more(turn: AsyncTurn) -> None:
    async for _ in turn.watch(for_ever(), first=3 * PATIENCE, idle=0.3):
        pass


async def hangs_in_a_tool(turn: AsyncTurn) -> None:
    turn.progress("tool")
    await asyncio.Event().wait()


Hang = Callable[[AsyncTurn], Awaitable[None]]
STALLS: dict[str, tuple[Hang, dict[str, Any], str]] = {
    "a model that says nothing": (says_nothing, {}, "model-limit"),
    "a model that says no more": (says_no_more, {}, "model-limit"),
    "a tool": (hangs_in_a_tool, {"max_stall": 0.3}, "stall-limit"),
    "between the steps": (hangs_in_a_tool, {"max_hold": 0.3}, "hold-limit"),
}


@pytest.mark.parametrize(("hang", "limits", "reason"), STALLS.values(), ids=STALLS)
@mode("C1", bites=Bite(faults.ONLY_LOGS, shows="SessionBusy"))
def test_c1_wherever_a_turn_stalls_the_next_message_is_served(
    state: Path, hang: Hang, limits: dict[str, Any], reason: str
) -> None:
    store = turnlock.open_store(state)

    async def test() -> None:
        begun = asyncio.Event()

        async def stalled() -> None:
            async with store.turn("main/a", **limits) as turn:
                await turn.append(turnlock.user("1"))
                begun.set()
                await hang(turn)

        task = asyncio.create_task(stalled())
        await begun.wait()
        async with store.turn("main/a", wait=PATIENCE / 2) as turn:
            await turn.append(turnlock.user("2"))
        with pytest.raises(turnlock.LeaseRevoked) as caught:
            await task
        assert caught.value.reason == reason

    run(test)


class Immovable(FileOps):
    """A file that cannot be replaced, as an immutable one."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        if target == self._path:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        os.rename(source, target)


@mode("C2", bites=Bite(faults.SWEEP_STOPS, shows="StoreError"))
def test_c2_locks_that_cannot_be_removed_stop_no_sweep(state: Path) -> None:
    killed_holder(state)
    dead = claim(state).read_bytes()
    claim(state).unlink()
    claim(state, "a").mkdir()
    for name in "bcd":
        transcript(state, name).touch()
        claim(state, name).write_bytes(dead)
    backend = FilesBackend(StateDirectory(str(state)), files=Immovable(claim(state, "b")))
    found = Store(backend, location=str(state)).clean_stale()
    assert {Path(one.path).name[0]: one.removed for one in found} == {
        "a": False,
        "b": False,
        "c": True,
        "d": True,
    }
    left = {Path(one.path).name[0]: one.stale for one in examine(str(state)).locks}
    assert left == {"a": False, "b": True}, "what is left is shown"


class Frozen(FileOps):
    """A disk on which the replacement of one file hangs."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.thawed = threading.Event()

    def rename(self, source: str, target: str) -> None:  # type: ignore[override]
        if target == self._path:
            self.thawed.wait(3 * PATIENCE)
        os.rename(source, target)


@mode("C2", bites=Bite(faults.ONE_BY_ONE, shows="did not come to that"))
def test_c2_a_turn_that_cannot_be_revoked_keeps_no_other(state: Path) -> None:
    files = Frozen(claim(state, "a"))
    store = Store(FilesBackend(StateDirectory(str(state)), files=files), location=str(state))
    try:
        with hung(store, "main/a", max_hold=0.5), hung(store, "main/b", max_hold=0.6):
            eventually(lambda: not claim(state, "b").exists())
            assert claim(state, "a").exists()
            files.thawed.set()
            eventually(lambda: not claim(state, "a").exists())
    finally:
        files.thawed.set()


@mode("C3", bites=Bite(faults.WRITES_ON, shows="a late answer"))
def test_c3_what_a_released_turn_comes_back_with_is_refused(tmp_path: Path) -> None:
    from tests.gateway import serving

    from .gateways import talking

    completed = asyncio.Event()

    async def late(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        if serving.last_text(messages) == "hang":
            await deaf(completed)
            yield Delta("a late answer")
            yield Finished("stop", None, "script")
        async for item in serving.echo(messages):
            yield item

    async def test() -> None:
        async with talking(tmp_path, serving.Scripted(late)) as (gateway, talk):
            assert await talk("hang") == "model_limit"
            assert await talk("hello") == "re: hello"
            completed.set()
            await serving.eventually(lambda: not turns_of_this_loop())
            said = [("user", "hang"), ("user", "hello"), ("assistant", "re: hello")]
            assert gateway.said() == said
            epochs = [entry["epoch"] for entry in gateway.transcript()[1:]]
            assert epochs == sorted(epochs)

    serving.run(test())


def turns_of_this_loop() -> list[str]:
    """The gateway's tasks that are turns; also those whose clients have their answer."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("turn ")]


@mode("C4", bites=Bite(faults.DONE_UNFENCED, shows="done, it is said"))
def test_c4_a_revocation_is_reported_when_it_is_true_and_not_before(state: Path) -> None:
    events: list[object] = []
    backend = FilesBackend(StateDirectory(str(state)), guard_timeout=0.2)
    store = Store(backend, location=str(state))
    store.subscribe(events.append)

    def happened(kind: type, times: int = 1) -> bool:
        return sum(isinstance(event, kind) for event in events) >= times

    with hung(store, max_hold=0.3):
        with transcript(state).open("rb") as guarded:
            # As a process does that is stopped in the middle of a write.
            fcntl.flock(guarded, fcntl.LOCK_EX)
            # Only who tries again has not said in the meantime that it is done.
            eventually(lambda: happened(RevocationFailed, 2) or happened(TurnRevoked))
            assert not happened(TurnRevoked), "done, it is said"
            assert store.statistics().revoked == 0
        eventually(lambda: happened(TurnRevoked))
        with store.turn("main/a", wait=PATIENCE) as probe:
            probe.append(turnlock.user("2"))
    assert reasons(state) == ["hold-limit"]


@mode("C5", bites=Bite(faults.QUEUE_DROPPED, shows="no answer"))
def test_c5_what_waits_behind_a_hung_turn_is_answered_in_order(tmp_path: Path) -> None:
    from tests.gateway import serving

    from .gateways import talking

    async def test() -> None:
        limits = "first_token = 1.5\nidle = 1.5\nturn = 30"
        async with talking(tmp_path, limits=limits) as (gateway, talk):
            asked = []
            for text in ("/hang", "one", "two", "three"):
                asked.append(asyncio.create_task(talk(text)))
                await serving.eventually(lambda: in_line() == len(asked))
            assert await asyncio.gather(*asked) == [
                "model_limit",
                "practice reply 2 to: one",
                "practice reply 3 to: two",
                "practice reply 4 to: three",
            ]
            users = [text for role, text in gateway.said() if role == "user"]
            assert users == ["/hang", "one", "two", "three"]

    serving.run(test())


def in_line() -> int:
    """How many of this process hold a session or wait for one."""
    return sum(map(len, queues._queues.values()))


@mode("C6", bites=Bite(faults.EMPTY_IS_CONTENT, shows="turn_limit"))
def test_c6_a_stream_that_says_nothing_meets_the_limit_of_content(tmp_path: Path) -> None:
    dribble(tmp_path, "/comments", "turn = 4.0\nfirst_token = 0.5\nidle = 0.5", "model_limit")


@mode("C6", bites=Bite(faults.NO_TURN_LIMIT, shows="no answer"))
def test_c6_a_stream_that_never_ends_meets_the_limit_of_the_turn(tmp_path: Path) -> None:
    dribble(tmp_path, "/dribble", "turn = 1.0", "turn_limit")


def dribble(tmp_path: Path, text: str, limits: str, code: str) -> None:
    """An endpoint drips fifty times a second, and never ends."""
    from tests.gateway import serving
    from turnlock.practice import PracticeServer

    from .gateways import models, talking

    async def test() -> None:
        async with (
            PracticeServer(pulse=0.02) as practice,
            talking(tmp_path, limits=limits, rest=models(main=practice.url)) as (_, talk),
        ):
            assert await talk(text) == code
            assert await talk("hello") == "practice reply 2 to: hello"

    serving.run(test())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def timed(clock: ManualClock) -> Iterator[Store]:
    """A store whose time passes when the test says so; its models speak within 12 s."""
    limits = turnlock.Limits(first_token=12.0, idle=12.0)
    with Store(
        MemoryBackend(clock=clock, pid=os.getpid()), location="test", clock=clock, limits=limits
    ) as store:
        yield store


@mode("C7", bites=Bite(faults.BUDGET_UNHEARD, shows="it was revoked"))
def test_c7_a_silent_tool_has_the_time_that_was_declared_for_it(
    timed: Store, clock: ManualClock
) -> None:
    ended = threading.Event()

    def work(first: float | None) -> str:
        with timed.turn("main/a", wait=0, max_hold=1000) as turn:
            turn.append(turnlock.user("1"))
            turn.watch(ended.wait, first=first, what="tool")
            return "done"

    with ThreadPoolExecutor() as pool:
        try:
            declared = pool.submit(work, 90)
            eventually(lambda: [one.phase for one in timed.leases()] == ["tool"])
            tick(clock, 20)
            assert timed.statistics().revoked == 0, "it was revoked"
            tick(clock, 40)
            ended.set()
            assert declared.result(PATIENCE) == "done"
            ended.clear()
            undeclared = pool.submit(work, None)
            eventually(lambda: [one.phase for one in timed.leases()] == ["tool"])
            tick(clock, 12)
            eventually(lambda: timed.statistics().revoked_by_reason == {"model-limit": 1})
        finally:
            ended.set()
        with pytest.raises(turnlock.LeaseRevoked):
            undeclared.result(PATIENCE)


@mode("C7", bites=Bite(faults.THOUGHTS_UNSEEN, shows="LeaseRevoked"))
def test_c7_a_model_that_thinks_is_no_idle_one(timed: Store, clock: ManualClock) -> None:
    from tests.models.wires import OPENAI, Line, scripted
    from turnlock.models.openai import OpenAIModel

    seen: asyncio.Queue[object] = asyncio.Queue()

    async def thinks(line: Line) -> None:
        await line.begin()
        for _ in range(5):
            await line.send(OPENAI.thought("hm"))
            try:
                async with asyncio.timeout(PATIENCE / 4):
                    await seen.get()
            except TimeoutError:
                pass  # nobody sees it; time passes all the same
            await asyncio.to_thread(tick, clock, 10)
        await line.send(OPENAI.text("done"), OPENAI.end("stop"))

    async def test() -> None:
        async with scripted(OPENAI, thinks) as endpoint, timed.turn("main/a", wait=0) as turn:
            model = OpenAIModel(endpoint.url, "m")
            items = []
            async for item in turn.watch(model.stream([{"role": "user", "content": "x"}])):
                items.append(item)
                seen.put_nowait(item)
            assert items[-2] == Delta("done")

    run(test)


BLOCKED = """
    import asyncio, time, turnlock
    from turnlock.events import TurnRevoked
    store = turnlock.open_store(sys.argv[1])
    def tell(event):
        if isinstance(event, TurnRevoked):
            print(event.reason, "at:", event.stack[-1], flush=True)
    store.subscribe(tell)
    async def this_blocks(turn):
        print("blocks", flush=True)
        time.sleep(3600)
    async def main():
        async with store.turn("main/a", max_hold=0.3) as turn:
            await turn.append(turnlock.user("1"))
            await this_blocks(turn)
    asyncio.run(main())
"""


@mode("C8", bites=Bite(faults.WATCHDOG_ON_LOOP, shows="no line came"))
def test_c8_a_blocked_event_loop_is_seen_and_named_by_its_own_process(state: Path) -> None:
    with child(BLOCKED, state) as process:
        process.expect("blocks")
        report = process.line()
        assert report.startswith("hold-limit at: "), report
        assert "this_blocks" in report
        with turnlock.open_store(state).turn("main/a", wait=PATIENCE) as turn:
            turn.append(turnlock.user("2"))
        assert process.process.poll() is None, "it blocks still"


AWAY = """
    import signal, turnlock
    from turnlock.events import ClockGap, TurnRevoked
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    store = turnlock.open_store(sys.argv[1])
    def tell(event):
        if isinstance(event, (ClockGap, TurnRevoked)):
            print(type(event).__name__, flush=True)
    store.subscribe(tell)
    with store.turn("main/a") as turn:
        for line in turn.watch(iter(sys.stdin.readline, ""), first=600, idle=2.0):
            print("got", line.strip(), flush=True)
            if line.strip() == "end":
                break
            signal.sigwait({signal.SIGUSR1})  # busy with what it got
    print("done", flush=True)
"""


@mode("C9", bites=Bite(faults.NO_GAPS, shows="TurnRevoked"))
def test_c9_progress_that_lies_unread_while_a_process_is_stopped_is_progress(state: Path) -> None:
    with child(AWAY, state) as process:
        process.tell("1")
        process.expect("got 1")
        process.tell("end")
        process.stop()
        time.sleep(2.5)  # for longer than a model may be silent
        process.go_on()
        process.expect("ClockGap")
        os.kill(process.pid, signal.SIGUSR1)
        process.expect("got end")
        process.expect("done")


@mode("C9", bites=Bite(faults.LATE_IS_OVER, shows="model_limit"))
def test_c9_a_gateway_that_was_stopped_ends_no_healthy_call(tmp_path: Path) -> None:
    from tests.gateway import serving
    from tests.models.wires import OPENAI, Line, scripted

    from .gateways import Talk, models

    stopped = asyncio.Event()

    async def in_two_halves(line: Line) -> None:
        await line.begin()
        await line.send(OPENAI.text("hel"))
        await stopped.wait()
        await line.send(OPENAI.text("lo"), OPENAI.end("stop"))

    async def test() -> None:
        limits = "first_token = 60\nidle = 2.0\nturn = 100"
        async with scripted(OPENAI, in_two_halves) as upstream:
            table = models(main=upstream.url)
            with serving.process(tmp_path, limits=limits, rest=table) as (gateway, process):
                async with gateway.client(max_retries=0) as client:
                    talk = Talk(client)
                    # Both halves came through it: at both calls it waits for more.
                    heard: tuple[list[str], list[str]] = ([], [])
                    calls = asyncio.gather(
                        talk("hello", "a", stream=True, heard=heard[0]),
                        talk("hello", None, stream=True, heard=heard[1]),
                    )
                    await serving.eventually(lambda: all("hel" in one for one in heard))
                    process.stop()
                    stopped.set()
                    await asyncio.sleep(2.5)  # for longer than a model may be silent
                    process.go_on()
                    assert list(await calls) == ["hello", "hello"]

    serving.run(test())


class LateClock(SystemClock):
    """Whoever sleeps on it is woken too late, always."""

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        return event.wait(None if timeout is None else timeout + 0.35)


@mode("C10", bites=Bite(faults.ALL_GIVEN_BACK, shows="did not come to that"))
def test_c10_a_watchdog_that_is_always_late_ends_a_hung_turn_all_the_same(state: Path) -> None:
    store = Store(FilesBackend(StateDirectory(str(state))), location=str(state), clock=LateClock())
    with hung(store, max_hold=0.2):
        eventually(lambda: not claim(state).exists())
        assert store.statistics().clock_gaps > 0, "it was not late"
    assert reasons(state) == ["hold-limit"]


@mode("C10", bites=Bite(faults.LATE_AGAIN_AND_AGAIN, shows="no answer"))
def test_c10_a_loop_that_is_always_late_ends_a_hung_call_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.gateway import serving
    from turnlock.gateway import answering

    from .gateways import talking

    monkeypatch.setattr(answering, "TICK", 0.2)

    async def late(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        while messages:
            time.sleep(0.5)  # noqa: ASYNC251 - the fault
            await asyncio.sleep(0.01)
        yield Finished("stop", None, "script")

    async def test() -> None:
        limits = "first_token = 0.1\nturn = 100\ndrain = 0.5"
        async with talking(tmp_path, serving.Scripted(late), limits=limits) as (_, talk):
            assert await talk("hello", None) == "model_limit"

    serving.run(test())


@mode("C11", bites=Bite(faults.CHARGED_FOR_WAITING, shows="LeaseRevoked"))
def test_c11_who_waits_is_not_charged_for_it(timed: Store, clock: ManualClock) -> None:
    def wait_and_work() -> None:
        with timed.turn("main/a", wait=None, max_hold=10, max_stall=5) as turn:
            assert timed.check_leases() == []
            turn.append(turnlock.user("its turn at last"))

    with ThreadPoolExecutor() as pool:
        with timed.turn("main/a", max_hold=1000):
            waiter = pool.submit(wait_and_work)
            eventually(lambda: timed.waiters(["main/a"]) == {"main/a": 1})
            tick(clock, 60)
        waiter.result(PATIENCE)


@mode("C12", bites=Bite(faults.NAMELESS, shows="None"))
def test_c12_a_turn_has_its_name_before_it_has_written_anything(state: Path) -> None:
    silent = """
        import turnlock
        with turnlock.open_store(sys.argv[1]).turn("main/a", turn_id="T1"):
            print("holding", flush=True)
            sys.stdin.readline()
    """
    store = turnlock.open_store(state)
    with child(silent, state) as process:
        process.expect("holding")
        with pytest.raises(turnlock.SessionBusy) as busy:
            store.turn("main/a", wait=0).__enter__()
        assert busy.value.holder_turn == "T1"
        assert running.run(state, "release", "main/a", "--yes").code == 0
        with store.turn("main/a", wait=PATIENCE) as turn:
            turn.append(turnlock.user("2"))
    entries = [entry.get("data", {}) for entry in store.read("main/a")]
    assert [data["turnId"] for data in entries if data.get("reason") == "operator"] == ["T1"]


@mode("C12", bites=Bite(faults.BODY_UNLIMITED, shows="it hangs"))
def test_c12_a_request_that_hangs_before_it_names_a_session_is_ended(tmp_path: Path) -> None:
    from tests.gateway import raw, serving

    from .gateways import talking

    async def test() -> None:
        async with talking(tmp_path) as (gateway, talk), raw.line(gateway) as connection:
            whole = raw.request(gateway, body=raw.chat("the session is in here", user="a"))
            await connection.send(whole[:-20])
            assert await talk("hello") == "practice reply 1 to: hello"
            answer = asyncio.create_task(connection.answer())
            await asyncio.wait({answer}, timeout=PATIENCE)
            assert answer.done(), "it hangs"
            assert (await answer).error()["code"] == "body_timeout"

    serving.run(test())


@mode("C13", bites=Bite(faults.SDK_RETRIES, shows="3 requests"))
def test_c13_a_call_that_fails_is_tried_once(tmp_path: Path) -> None:
    from tests.gateway import serving
    from turnlock.practice import PracticeServer

    from .gateways import models, talking

    async def test() -> None:
        limits = "first_token = 10\nturn = 30"
        async with (
            PracticeServer() as practice,
            talking(tmp_path, limits=limits, rest=models(main=practice.url)) as (_, talk),
        ):
            assert await talk("/500") == "upstream_error"
            count = practice.statistics().requests
            assert count == 1, f"{count} requests"

    serving.run(test())


@mode("C13", bites=Bite(faults.EACH_CALL_ANEW, shows="it tries for ever"))
def test_c13_tries_that_all_hang_share_one_limit(state: Path) -> None:
    store = turnlock.open_store(state)
    tries = 0

    async def try_for_ever() -> None:
        nonlocal tries
        async with store.turn("main/a", max_hold=0.8) as turn:
            await turn.append(turnlock.user("1"))
            while True:
                tries += 1
                try:
                    async with asyncio.timeout(0.1):
                        await turn.watch(asyncio.Event().wait(), first=0.5)
                except TimeoutError:
                    continue

    async def test() -> None:
        task = asyncio.create_task(try_for_ever())
        await asyncio.wait({task}, timeout=PATIENCE / 2)
        assert task.done(), "it tries for ever"
        with pytest.raises(turnlock.LeaseRevoked) as caught:
            await task
        assert caught.value.reason == "hold-limit"
        assert tries > 1

    run(test)


ENDED = """
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("1"))
        files.stop_at("fdatasync")  # of its terminal entry: what is left is to release
    print("left", flush=True)
"""


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
@mode("C14", bites=Bite(faults.ENDED_IS_OWED, shows="operator|interrupted"))
def test_c14_a_turn_that_ended_well_stays_so_whoever_takes_its_lock(
    state: Path, killed: bool
) -> None:
    store = turnlock.open_store(state)
    with child(STOPPING + ENDED, state) as finished:
        stopped_itself(finished)
        if killed:
            finished.kill()
        else:
            assert store.revoke("main/a")
        with store.turn("main/a", wait=0, turn_id="T2") as turn:
            turn.append(turnlock.user("2"))
        if not killed:
            finished.go_on()
            finished.expect("left")
    first, second = ["turnlock:turn", "1", "turnlock:end"], ["turnlock:turn", "2", "turnlock:end"]
    assert running.story(state) == first + second
