"""E. Python's runtime: threads, executors, asyncio, tools."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import turnlock
from tests.cli import running
from tests.helpers import PATIENCE, Child, child, eventually, is_gone
from tests.mutants import faults
from turnlock.transcript.entries import Entry, message_of
from turnlock.turns.queue import queues

from .declaring import Bite, mode
from .programs import AT_ONCE, FORKING, ROUNDS, STOPPING, TAKE, transcript

if TYPE_CHECKING:
    import openai

    from turnlock.models import Delta, Finished, Message


def run(test: Any, patience: float = PATIENCE) -> None:
    # What a gateway needs takes longer to import than most of these tests to run.
    from . import told

    told.run(test, patience)


# As `STOPPING`, but what `stop_at` names never returns, and the process goes on.
STALLING = "\n    import threading" + STOPPING.replace(
    "os.kill(os.getpid(), signal.SIGSTOP)", "threading.Event().wait()"
)


@mode("E1", bites=Bite(faults.TORN_DOWN_WRITES, shows="DID NOT RAISE"))
def test_e1_a_thread_that_hung_acts_no_more_when_it_wakes(state: Path) -> None:
    store = turnlock.open_store(state)
    server = socket.create_server(("127.0.0.1", 0))

    def hung() -> None:
        with (
            store.turn("main/a", turn_id="T1") as turn,
            socket.create_connection(server.getsockname()) as connection,
        ):
            turn.append(turnlock.user("1"))
            with suppress(turnlock.LeaseRevoked):
                turn.watch(lambda: connection.recv(1), first=0.3)
            for act in (turn.check, lambda: turn.append(turnlock.user("too late"))):
                with pytest.raises(turnlock.LeaseRevoked):
                    act()

    with ThreadPoolExecutor(1) as pool, server:
        running_on = pool.submit(hung)
        with server.accept()[0]:
            with store.turn("main/a", wait=PATIENCE) as turn:
                turn.append(turnlock.user("2"))
            assert [zombie.turn_id for zombie in store.zombies()] == ["T1"]
            before = transcript(state).read_bytes()
        with pytest.raises(turnlock.LeaseRevoked):
            running_on.result(PATIENCE)
    assert transcript(state).read_bytes() == before
    assert store.zombies() == []


HUNG_AT_THE_END = """
    import asyncio
    async def main():
        try:
            async with store.turn("main/a", max_hold=0.5) as turn:
                files.stop_at("fdatasync")
                await turn.append(turnlock.user("1"))
        except turnlock.LeaseRevoked as error:
            print("revoked", error.reason, flush=True)
    asyncio.run(main())
    print("the loop is closed", flush=True)
"""


@mode("E2", bites=Bite(faults.JOINED_WORKERS, shows="did not come to that"))
def test_e2_neither_the_loops_end_nor_the_interpreters_joins_a_thread_that_hangs(
    state: Path,
) -> None:
    with child(STALLING + HUNG_AT_THE_END, state) as process:
        process.expect("revoked hold-limit")
        process.expect("the loop is closed")
        eventually(lambda: process.process.poll() == 0)


@mode("E3", bites=Bite(faults.DEFAULT_POOL, shows="had to wait"))
def test_e3_turns_that_fill_the_default_pool_keep_no_other_waiting(state: Path) -> None:
    from tests.gateway import serving

    store = turnlock.open_store(state, durability="none")
    over = threading.Event()

    async def hang(number: int) -> None:
        async with store.turn(f"main/{number}"):
            await asyncio.to_thread(over.wait)

    async def test() -> None:
        hung = [asyncio.create_task(hang(number)) for number in range(40)]
        # Where they do hold it up it comes to an end all the same.
        asyncio.get_running_loop().call_later(PATIENCE, over.set)
        await serving.eventually(lambda: store.statistics().held == len(hung))
        async with store.turn("main/a") as turn:
            await turn.append(turnlock.user("1"))
        assert not over.is_set(), "it had to wait for them"
        over.set()
        await asyncio.gather(*hung)

    run(test(), 3 * PATIENCE)


# The system's look-up of one name hangs, as it does when its server does not answer.
HUNG_NAMES = """
    import os, socket, threading
    os.environ["NO_PROXY"] = "*"
    getaddrinfo = socket.getaddrinfo
    def hanging(host, *given, **named):
        if host in ("model.invalid", b"model.invalid"):
            # In one piece: others say it at the same time.
            os.write(1, b"looks it up\\n")
            threading.Event().wait()
        return getaddrinfo(host, *given, **named)
    socket.getaddrinfo = hanging
"""


@mode("E3", bites=Bite(faults.FEW_LOOKUPS, shows="no line came|did not come to an end"))
def test_e3_names_that_are_not_found_keep_no_other_from_being_looked_up(tmp_path: Path) -> None:
    from tests.gateway import serving
    from turnlock.practice import PracticeServer

    async def test(gateway: serving.Served, process: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            # One more than threads are in the interpreter's default pool.
            hung = [
                asyncio.create_task(
                    client.chat.completions.create(model="lost", messages=serving.user("hello"))
                )
                for _ in range(min(32, (os.cpu_count() or 1) + 4) + 1)
            ]
            for _ in hung:
                await asyncio.to_thread(process.expect, "looks it up")
            assert await serving.ask(client, "hello") == "practice reply 1 to: hello"
            process.kill()
            await asyncio.gather(*hung, return_exceptions=True)

    async def beside_a_model() -> None:
        async with PracticeServer() as practice:
            local = practice.url.replace("127.0.0.1", "localhost")
            rest = "".join(
                f'[models.{name}]\nbase_url = "{url}"\n[agents.{name}]\nmodel = "{name}"\n'
                for name, url in (("main", local), ("lost", "http://model.invalid/v1"))
            )
            path = serving.config_file(tmp_path, limits="first_token = 60.0", rest=rest)
            with child(HUNG_NAMES + serving.PROCESS, tmp_path / "state", path) as process:
                url = await asyncio.to_thread(process.line, 3 * PATIENCE)
                await test(serving.Served(url, tmp_path / "state"), process)

    run(beside_a_model(), 4 * PATIENCE)


async def failure(client: openai.AsyncOpenAI, text: str) -> str | None:
    """The code of the error that a message ends in."""
    from tests.gateway import serving

    return (await serving.failure(client, text)).code


@mode("E4", bites=Bite(faults.ANSWERS_WITH_ITS_TASK, shows="did not come to an end"))
def test_e4_nobody_waits_for_a_task_that_ignores_its_cancellation(tmp_path: Path) -> None:
    from tests.gateway import serving

    async def test() -> None:
        over, ended = asyncio.Event(), asyncio.Event()

        async def deaf(
            messages: Sequence[Message],
        ) -> AsyncGenerator[Delta | Finished, None]:
            if serving.last_text(messages) == "hang":
                await serving.deaf_sleep(over)
                ended.set()
            async for item in serving.echo(messages):
                yield item

        async with (
            serving.served(tmp_path, serving.Scripted(deaf)) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            try:
                assert await failure(client, "hang") == "model_limit"
                assert await serving.ask(client, "next") == "re: next"
                assert not ended.is_set(), "it did not ignore it"
            finally:
                over.set()
            await ended.wait()

    run(test())


@mode("E5", bites=Bite(faults.NOT_UNCANCELLED, shows="interrupted"))
def test_e5_a_task_that_lost_its_turn_does_its_next_job_undisturbed(state: Path) -> None:
    store = turnlock.open_store(state)

    async def test() -> None:
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        with pytest.raises(turnlock.LeaseRevoked):
            async with store.turn("main/a", max_hold=0.3):
                await asyncio.Event().wait()
        assert task.cancelling() == before, "its next job finds itself interrupted"
        async with store.turn("main/a", wait=PATIENCE) as turn:
            await turn.append(turnlock.user("next"))

    run(test())


@mode("E5", bites=Bite(faults.SCOPE_STAYS, shows="in the turn of before"))
def test_e5_a_thread_that_lost_its_turn_does_its_next_job_undisturbed(state: Path) -> None:
    store = turnlock.open_store(state)
    seen: list[int] = []

    def interrupted() -> None:
        seen.append(threading.get_ident())
        with store.turn("main/a", max_hold=0.3) as turn:
            eventually(lambda: turn.revoked)
            raise KeyboardInterrupt

    def following() -> None:
        seen.append(threading.get_ident())
        assert turnlock.current_turn() is None, "it finds itself in the turn of before"
        with store.turn("main/a", wait=PATIENCE) as turn:
            turn.append(turnlock.user("next"))

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(interrupted).result(PATIENCE)
        pool.submit(following).result(PATIENCE)
    assert seen[0] == seen[1]


@mode(
    "E6",
    bites=(
        Bite(faults.PRUNED_WHILE_AWAITED, shows="did not come to an end"),
        Bite(faults.NEVER_PRUNED, shows="did not come to that"),
    ),
)
def test_e6_a_queue_lives_for_as_long_as_somebody_is_in_it(state: Path) -> None:
    store = turnlock.open_store("memory:")
    inside: Counter[str] = Counter()

    async def use(key: str) -> None:
        async with store.turn(key, wait=PATIENCE):
            inside[key] += 1
            assert inside[key] == 1, "two at once"
            await asyncio.sleep(0)
            inside[key] -= 1

    async def test() -> None:
        keys = [f"main/{number}" for number in range(300)] * 3
        tasks = [asyncio.create_task(use(key)) for key in keys]
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.gather(*tasks)

    before = len(queues._queues)
    run(test())
    # The last one's place is given up by a worker, a moment after its block.
    eventually(lambda: len(queues._queues) <= before)


BLOCKED_LOOP = """
    import asyncio, turnlock
    from turnlock.events import TurnRevoked
    store = turnlock.open_store(sys.argv[1])
    store.subscribe(lambda event: isinstance(event, TurnRevoked) and print("taken", flush=True))
    async def main():
        try:
            async with store.turn("main/a", max_hold=0.5) as turn:
                await turn.append(turnlock.user("1"))
                print("blocks", flush=True)
                sys.stdin.readline()
                await turn.append(turnlock.user("too late"))
        except turnlock.LeaseRevoked as error:
            print("lost:", error.reason, flush=True)
    asyncio.run(main())
"""


@mode("E7", bites=Bite(faults.NO_WATCHDOG, shows="no line came"))
def test_e7_a_call_that_blocks_the_loop_does_not_stop_the_watchdog(state: Path) -> None:
    with child(BLOCKED_LOOP, state) as process:
        process.expect("blocks")
        process.expect("taken")
        with turnlock.open_store(state).turn("main/a", wait=PATIENCE) as turn:
            turn.append(turnlock.user("2"))
            process.tell()
            process.expect("lost: hold-limit")
    assert running.story(state)[1:4] == ["1", "hold-limit", "turnlock:turn"]


SLOW_STORAGE = """
    import asyncio, os
    async def stalled():
        async with store.turn("main/a") as turn:
            files.stop_at("fdatasync")
            await turn.append(turnlock.user("1"))
    async def main():
        task = asyncio.create_task(stalled())
        while store.statistics().held == 0 or files.call:
            await asyncio.sleep(0.001)
        async with store.turn("main/b") as turn:
            await turn.append(turnlock.user("2"))
        print("the loop goes on", flush=True)
        os._exit(0)
    asyncio.run(main())
"""


@mode("E7", bites=Bite(faults.ON_THE_LOOP, shows="no line came"))
def test_e7_a_disk_that_hangs_blocks_no_loop(state: Path) -> None:
    with child(STALLING + SLOW_STORAGE, state) as process:
        process.expect("the loop goes on")


@mode(
    "E8",
    bites=(
        Bite(faults.NO_WATCHDOG, shows="did not come to that"),
        Bite(faults.GROUP_LEFT, shows="it runs on"),
    ),
)
def test_e8_a_tool_that_never_returns_is_ended_with_all_that_it_started(state: Path) -> None:
    tool = ["sh", "-c", "sleep 3600 & echo $$ $!; wait"]
    with running.running(state, "exec", "main/a", "--max-hold", "2", "--", *tool) as process:
        leader, started = map(int, running.line_of(process).split())
        try:
            eventually(lambda: process.poll() is not None)
            assert process.returncode == 124
            assert is_gone(leader), "it runs on"
            eventually(lambda: is_gone(started))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
    with turnlock.open_store(state).turn("main/a", wait=0):
        pass
    assert running.story(state) == ["turnlock:turn", "hold-limit"]


@pytest.mark.parametrize("how", ["killed", "stopped"])
@mode(
    "E9",
    bites=(
        Bite(faults.END_UNNOTICED, shows="did not come to an end"),
        Bite(faults.NO_WATCHDOG, shows="did not come to an end"),
    ),
)
def test_e9_a_server_that_died_in_the_middle_of_a_call_is_noticed(tmp_path: Path, how: str) -> None:
    import openai

    from tests.gateway import serving

    async def test(endpoint: Any, url: str) -> None:
        rest = f'[models.p]\nbase_url = "{url}"\n[agents.main]\nmodel = "p"'
        # One that is stopped has a connection that lives: only the limit ends it.
        limits = f"idle = {0.5 if how == 'stopped' else 60.0}\nturn = 60.0"
        async with (
            serving.served(tmp_path, limits=limits, rest=rest) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            stream = await client.chat.completions.create(
                model="main",
                messages=serving.user("/stall"),
                extra_headers=serving.in_session("a"),
                stream=True,
            )
            await anext(stream)
            endpoint.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            with pytest.raises(openai.APIError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code == ("upstream_error" if how == "killed" else "model_limit")
            assert not gateway.is_held()
            assert len(gateway.markers()) == 1

    with running.running(tmp_path, "practice-model") as endpoint:
        run(test(endpoint, running.line_of(endpoint)))


def calls(*names: str) -> Entry:
    """An assistant's message that calls tools."""
    parts = [{"type": "toolCall", "id": name, "name": name, "arguments": {}} for name in names]
    return {"type": "message", "message": {"role": "assistant", "content": parts}}


def result(name: str) -> Entry:
    text = [{"type": "text", "text": f"of {name}"}]
    message = {"role": "toolResult", "toolCallId": name, "toolName": name, "content": text}
    return {"type": "message", "message": message}


def cancelled(store: turnlock.Store, over: threading.Event) -> None:
    """A turn whose task is cancelled while a thread of its runs a tool."""

    async def test() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            async with store.turn("main/a") as turn:
                await turn.append(calls("quick", "slow"), result("quick"))
                begun.set()
                await asyncio.to_thread(over.wait)

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        # The thread runs on; the end of the loop waits for it.
        over.set()

    run(test())


def released(store: turnlock.Store, over: threading.Event) -> None:
    """A turn that an operator takes its session from while it runs a tool."""
    begun = threading.Event()

    def a_slow_tool() -> None:
        begun.set()
        over.wait(3 * PATIENCE)

    def work() -> None:
        with store.turn("main/a", turn_id="T1") as turn:
            turn.append(calls("quick", "slow"), result("quick"))
            turn.watch(a_slow_tool, first=60, what="tool slow")

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            assert begun.wait(PATIENCE)
            assert store.revoke("main/a")
            (zombie,) = store.zombies() or pytest.fail("nothing says that it runs on")
            assert zombie.turn_id == "T1"
            assert "a_slow_tool" in "".join(zombie.stack)
        finally:
            over.set()
        with pytest.raises(turnlock.LeaseRevoked):
            working.result(PATIENCE)
    assert store.zombies() == []
    assert running.marker(Path(store.location))["phase"] == "tool slow"


@pytest.mark.parametrize("end", [cancelled, released])
@mode(
    "E10",
    bites=(
        Bite(faults.NO_RESULTS, shows="a call has no result"),
        Bite(faults.UNLISTED, shows="nothing says that it runs on"),
    ),
)
def test_e10_a_turn_that_is_ended_says_what_became_of_its_tools(
    state: Path, end: Callable[[turnlock.Store, threading.Event], None]
) -> None:
    store = turnlock.open_store(state)
    over = threading.Event()
    try:
        end(store, over)
    finally:
        over.set()
    answered = [message_of(entry).get("toolCallId") for entry in store.read("main/a")]
    assert [one for one in answered if one] == ["quick", "slow"], "a call has no result"


@mode("E11", bites=Bite(faults.NEVER_TOLD, shows="did not come to an end"))
def test_e11_a_reply_that_cannot_be_stored_ends_its_stream_with_an_error(tmp_path: Path) -> None:
    import openai

    from tests.gateway import serving

    from . import told

    async def test(gateway: serving.Served, process: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="main",
                messages=serving.user("hold"),
                extra_headers=serving.in_session("a"),
                stream=True,
            )
            await anext(stream)
            # From here on the file system takes no more of the transcript.
            full = transcript(gateway.state).stat().st_size
            soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, hard))
            process.tell()
            with pytest.raises(openai.APIError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code == "storage_error"
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
            assert await serving.ask(client, "next") == "re: next"
        assert len(gateway.markers()) == 1

    with told.told(tmp_path, limits="drain = 1.0") as served:
        run(test(*served))


SLOW_DISK = """
    from turnlock.backends.files.fileops import FileOps
    from turnlock.gateway.exchange import Exchange
    fdatasync, client_left = FileOps.fdatasync, Exchange.client_left
    syncs = 0
    def slow(self, handle):
        global syncs
        syncs += 1
        if syncs == 2:  # the first one was of the question
            print("stores the reply", flush=True)
            sys.stdin.readline()
        fdatasync(self, handle)
    def left(self):
        client_left(self)
        print("its client left", flush=True)
    FileOps.fdatasync, Exchange.client_left = slow, left
"""


@mode("E12", bites=Bite(faults.CANCELLED_WHILE_STORING, shows="half of it"))
def test_e12_a_client_that_leaves_at_the_last_token_costs_nothing_of_the_session(
    tmp_path: Path,
) -> None:
    from tests.gateway import raw, serving

    from . import told

    async def test(gateway: serving.Served, process: Child) -> None:
        async with raw.line(gateway) as connection:
            body = raw.chat("hello", stream=True, user="a")
            await connection.send(raw.request(gateway, body=body))
            await asyncio.to_thread(process.expect, "asked hello")
            await asyncio.to_thread(process.expect, "stores the reply")
        await asyncio.to_thread(process.expect, "its client left")
        process.tell()
        await serving.eventually(gateway.terminals)
        assert gateway.markers() == [], "half of it is stored"
        assert gateway.said() == [("user", "hello"), ("assistant", "re: hello")]

    with told.told(tmp_path, SLOW_DISK, limits="drain = 1.0") as served:
        run(test(*served))


@mode("E13", bites=Bite(faults.READERS_GUARD, shows="GuardTimeout"))
def test_e13_a_reader_that_pauses_keeps_nobody_from_writing(state: Path) -> None:
    store = turnlock.open_store(state)
    with store.turn("main/a") as turn:
        turn.append(*[turnlock.user(str(number)) for number in range(10)])
    paused = store.read("main/a")
    next(paused)
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("in between"))
    with child(TAKE, state, 0) as taker:
        taker.expect("taken")
        taker.tell()
        taker.expect("released")
    assert len(list(paused)) >= 10


def thread(state: Path, over: threading.Event) -> None:
    with suppress(turnlock.LeaseRevoked), turnlock.open_store(state).turn("main/a", max_hold=1):
        over.wait(3 * PATIENCE)


def task(state: Path, over: threading.Event) -> None:
    async def hang() -> None:
        with suppress(turnlock.LeaseRevoked):
            async with turnlock.open_store(state).turn("main/a", max_hold=1):
                await asyncio.Event().wait()

    asyncio.run(hang())


def process(state: Path, over: threading.Event) -> None:
    done = running.run(state, "exec", "main/a", "--max-hold", "1", "--", "sleep", "60")
    assert done.code == 124


@pytest.mark.parametrize("kind", [thread, task, process])
@mode("E14", bites=Bite(faults.COOPERATIVE_ONLY, shows="SessionBusy"))
def test_e14_what_blocks_a_thread_has_the_same_limits_as_a_task_and_a_process(
    state: Path, kind: Callable[[Path, threading.Event], None]
) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(kind, state, over)
        try:
            # Made by the take, and still there if that was over before anybody looked.
            eventually(transcript(state).exists)
            with turnlock.open_store(state).turn("main/a", wait=PATIENCE) as turn:
                turn.append(turnlock.user("next"))
        finally:
            over.set()
        hung.result(PATIENCE)
    assert running.story(state)[:3] == ["turnlock:turn", "hold-limit", "turnlock:turn"]


OPENED_ANEW = """
    def one(number, round):
        with turnlock.open_store(f"{state}/{round}").turn("main/a", wait=None) as turn:
            turn.append(turnlock.user("born"))
"""


@mode("E15", bites=Bite(faults.DIRECTORY_RACE, shows="did not start"))
def test_e15_of_many_that_open_a_fresh_store_at_once_none_fails(state: Path) -> None:
    workers, rounds = 8, 20
    state.mkdir()
    with child(FORKING + AT_ONCE + OPENED_ANEW + ROUNDS, state, workers, rounds) as burst:
        failures = int(burst.line(2 * PATIENCE))
        assert failures == 0, f"{failures} did not start"
    for number in range(rounds):
        lines = list(turnlock.open_store(state / str(number)).read_lines("main/a"))
        assert len(lines) == 1 + 3 * workers
