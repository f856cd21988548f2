"""The end: every turn with its terminal entry, every client told, in the time that is given."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

import turnlock
from turnlock import StoreError
from turnlock.clock import SystemClock
from turnlock.config import load_config
from turnlock.gateway import Agent, Stop, serve
from turnlock.gateway.attendant import Attendant
from turnlock.models import Delta, Finished, Message
from turnlock.turns.queue import queues
from turnlock.turns.workers import workers

from ..helpers import PATIENCE, Child, child, kinds
from .raw import Answer, chat, get, line, post, request
from .serving import (
    BOUND,
    PROCESS,
    QUICK,
    Scripted,
    Served,
    ask,
    config_file,
    deaf_sleep,
    eventually,
    facts,
    failure,
    process,
    process_of,
    run,
    served,
)
from .test_gateway_waiting import Gate, held

SLOW = "first_token = 20\nidle = 20\nturn = 30\n"


async def hung(gateway: Served, client: openai.AsyncOpenAI, **how: bool) -> asyncio.Task[object]:
    """A message whose turn is with a model that never answers."""
    turn: asyncio.Task[object] = asyncio.create_task(failure(client, "/hang", **how))
    await eventually(lambda: gateway.claim().exists() and len(gateway.said()) == 1)
    return turn


async def ended(process: Child) -> int:
    async with asyncio.timeout(BOUND):
        return await asyncio.to_thread(process.ended)


def test_sigterm_ends_a_hung_turn_in_time_with_its_marker(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client() as client:
            turn = await hung(gateway, client)
            started.process.send_signal(signal.SIGTERM)
            error = await turn
            assert isinstance(error, openai.InternalServerError)
            assert (error.status_code, error.code) == (503, "shutting_down")
            assert error.response.headers["x-should-retry"] == "false"
            assert await ended(started) == 0
        heard_only_the_url(gateway, started)
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
        assert len(gateway.terminals()) == 1
        assert not gateway.claim().exists()
        assert not (gateway.state / "gateway.json").exists()

    with process(tmp_path, limits=f"{SLOW}drain = 0.4") as (gateway, started):
        run(test(gateway, started))


INHERITED = {
    "blocked signals": """
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    """,
    "many descriptors": """
    import os, resource
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    """,
}


@pytest.mark.parametrize("inherited", INHERITED)
def test_a_signal_is_heard_whatever_the_process_has_inherited(
    tmp_path: Path, inherited: str
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 2048:
        pytest.skip("so many descriptors cannot be had here")
    with process_of(INHERITED[inherited] + PROCESS, tmp_path) as (_, started):
        started.process.send_signal(signal.SIGTERM)
        assert started.ended() == 0


def heard_only_the_url(gateway: Served, started: Child) -> None:
    """What a process has said by its end: its url, which `process` has read, and no secret."""
    assert started.process.stdout is not None
    assert started.process.stderr is not None
    assert started.process.stdout.read() == b"ended\n"
    log = started.process.stderr.read().decode()
    assert "start-up clean-up" in log
    assert "revoked" not in log
    assert "://" not in log
    assert gateway.token not in log


def test_a_second_signal_hastens_it(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client() as client:
            turn = await hung(gateway, client)
            started.process.send_signal(signal.SIGINT)
            await eventually_draining(gateway)
            assert not turn.done()
            started.process.send_signal(signal.SIGTERM)
            assert getattr(await turn, "code", None) == "shutting_down"
            assert await ended(started) == 0

    with process(tmp_path, limits=f"{SLOW}drain = 300.0") as (gateway, started):
        run(test(gateway, started))


async def eventually_draining(gateway: Served) -> None:
    async with asyncio.timeout(BOUND):
        while (await get(gateway, "/healthz")).status == 200:
            pass


def test_a_killed_gateway_leaves_a_turn_that_the_next_one_marks_once(tmp_path: Path) -> None:
    async def hang_and_die(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = await hung(gateway, client)
            started.kill()
            assert isinstance(await turn, openai.APIConnectionError)
        assert gateway.claim().exists()
        assert gateway.terminals() == []

    async def start_again(replies: int) -> None:
        # Cleaned up before anybody could ask, and marked by the first start only.
        async with served(tmp_path, limits=SLOW) as gateway, gateway.client() as client:
            assert not gateway.claim().exists()
            assert [m["reason"] for m in gateway.markers()] == ["interrupted"]
            assert await ask(client, "hello") == f"practice reply {replies} to: hello"

    with process(tmp_path, limits=SLOW) as (gateway, started):
        run(hang_and_die(gateway, started))
    run(start_again(2))
    run(start_again(3))
    assert len(gateway.terminals()) == len(set(gateway.terminals())) == 3


def test_turns_that_can_end_do_and_new_requests_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        limits = f"{SLOW}drain = 4.0"
        async with (
            served(tmp_path, gate.model, limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            first = await held(gateway, client, gate)
            waiting = asyncio.create_task(failure(client, "b"))
            await asyncio.wait({waiting}, timeout=0.1)
            gateway.stop.wish()
            error = await waiting
            assert error.code == "shutting_down"
            assert isinstance(error, openai.APIStatusError)
            assert "x-should-retry" not in error.response.headers  # nothing of it was stored
            refused = await post(gateway, chat("c", user="c"))
            assert (refused.status, refused.error()["code"]) == (503, "shutting_down")
            assert refused.headers["connection"] == "close"
            assert int(refused.headers["retry-after"]) > 0
            health = await get(gateway, "/healthz")
            assert (health.status, json.loads(health.body)["ready"]) == (503, False)
            gate.opened.set()
            assert await first == "re: hold"
        assert gateway.said() == [("user", "hold"), ("assistant", "re: hold")]
        assert gateway.markers() == []

    run(test())


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/sessions/main/a/entries"])
def test_a_client_that_still_sends_its_body_is_told_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    async def test() -> None:
        pace = QUICK._replace(body=BOUND)
        limits = f"{SLOW}drain = {BOUND}"
        async with (
            served(tmp_path, Gate().model, pace=pace, limits=limits) as gateway,
            line(gateway) as connection,
        ):
            begun = request(gateway, target, body=chat(), expect="100-continue")[:-5]
            await connection.send(begun)
            # It is told so by who begins to wait for the body.
            assert (await connection.head()).status == 100
            gateway.stop.wish()
            answer = await connection.answer()
            assert (answer.status, answer.error()["code"]) == (503, "shutting_down")
            assert "retry-after" in answer.headers
            assert await connection.end() == b""

    run(test())
    assert [one for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")] == []


def test_a_stream_is_told_of_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        limits = f"{SLOW}drain = 0.2"
        async with served(tmp_path, limits=limits) as gateway, line(gateway) as connection:
            await connection.send(request(gateway, body=chat("/stall", stream=True, user="a")))
            await connection.head()
            gateway.stop.wish()
            body = b"".join([chunk async for chunk in connection.chunks()])
            assert b'"code":"shutting_down"' in body
            assert b"[DONE]" not in body
            assert gateway.markers()[0]["reason"] == "cancelled"

    run(test())


def test_of_many_queued_streams_each_is_told_at_once_and_stored_nothing(tmp_path: Path) -> None:
    async def queued(gateway: Served, number: int) -> Answer:
        body = chat(f"queued {number}", stream=True, user=f"s{number % 3}")
        return await post(gateway, body)

    async def test() -> None:
        gate = Gate()
        limits = f"{SLOW}drain = 30.0"
        async with (
            served(tmp_path, gate.model, limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            running = [
                asyncio.create_task(ask(client, "hold", session=f"s{number}", stream=True))
                for number in range(3)
            ]
            await eventually(lambda: len(gate.model.calls) == 3)
            waiting = [asyncio.create_task(queued(gateway, number)) for number in range(30)]
            claims = [str(gateway.claim(f"s{number}")) for number in range(3)]
            await eventually(lambda: sum(len(queues.turn_ids(claim)) - 1 for claim in claims) == 30)
            gateway.stop.wish()
            for answer in await asyncio.gather(*waiting):
                assert (answer.status, answer.error()["code"]) == (503, "shutting_down")
                assert "x-should-retry" not in answer.headers
            gate.opened.set()
            assert await asyncio.gather(*running) == ["re: hold"] * 3
        for name in ("s0", "s1", "s2"):
            assert gateway.said(name) == [("user", "hold"), ("assistant", "re: hold")]
            assert gateway.markers(name) == []

    run(test())


def test_without_time_to_drain_every_turn_is_ended_and_marked(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=f"{SLOW}drain = 0") as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turn = asyncio.create_task(failure(client, "hold"))
            await eventually(lambda: gate.model.calls)
            gateway.stop.wish()
            assert (await turn).code == "shutting_down"
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
        assert not gateway.claim().exists()

    run(test())


def test_code_that_ignores_its_cancellation_does_not_hold_up_the_end(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def deaf(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
        await deaf_sleep(release)
        yield Delta("too late")
        yield Finished("stop", None, "m")

    async def test() -> None:
        limits = f"{SLOW}drain = 0.2"
        async with (
            served(tmp_path, Scripted(deaf), limits=limits) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turn = asyncio.create_task(failure(client, "hi"))
            await eventually(lambda: gateway.claim().exists() and gateway.said())
            gateway.stop.wish()
            assert (await turn).code == "shutting_down"
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
        release.set()
        await asyncio.sleep(0)
        assert gateway.said() == [("user", "hi")]

    run(test())


# The ways in which a model's code can fail to end, each as the body of its stream.
NEVER_ENDS = {
    "deaf": """
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
    """,
    "thread": "await asyncio.to_thread(time.sleep, 600)",
    "blocked": "time.sleep(600)",
    "busy": "while True: pass",
    # Again and again: a signal cuts a write to a full pipe short.
    "log": "while True: logging.getLogger('turnlock').error('x' * 2_000_000)",
}
MODEL_PROCESS = """
    import asyncio, logging, time
    from turnlock.gateway import Agent, attendant, process, server
    from turnlock.models import Delta

    class Never:
        provider = model = api = "never"
        async def stream(self, messages):
            print("called", flush=True)
            {body}
            yield Delta("never")
        async def aclose(self):
            pass

    agents = {{"main": Agent("main", Never(), "")}}
    serve = server.serve
    process.serve = lambda *a, **k: serve(*a, agents=agents, **k)
"""


@contextmanager
def stuck(tmp_path: Path, how: str, more: str = "") -> Iterator[tuple[Served, Child]]:
    """A gateway in a process of its own, whose model's code does not end."""
    path = config_file(tmp_path, limits=f"{SLOW}drain = 0.2")
    code = MODEL_PROCESS.format(body=NEVER_ENDS[how].strip()) + more + PROCESS
    with child(code, tmp_path / "state", path) as started:
        yield Served(started.line(), tmp_path / "state"), started


@pytest.mark.parametrize("how", NEVER_ENDS)
def test_no_code_of_a_model_keeps_the_process_from_ending_with_its_turn_marked(
    tmp_path: Path, how: str
) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = asyncio.create_task(failure(client, "hi"))
            await asyncio.to_thread(started.expect, "called")
            started.process.send_signal(signal.SIGTERM)
            error = await turn
            if how in ("deaf", "thread"):
                assert facts(error)["code"] == "shutting_down"
            else:
                # Nobody is there to tell the client but the end of its connection.
                assert isinstance(error, openai.APIConnectionError)
            assert await ended(started) == 0
        assert [m["reason"] for m in gateway.markers()] == ["cancelled"]
        assert len(gateway.terminals()) == 1
        assert not gateway.claim().exists()

    with stuck(tmp_path, how) as (gateway, started):
        run(test(gateway, started))


ONLY_LOOKS = """
    attendant.Attendant._end = lambda self, why: print(why, flush=True)
"""


def test_without_the_last_resort_a_blocked_loop_would_stay(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            turn = asyncio.create_task(failure(client, "hi"))
            await asyncio.to_thread(started.expect, "called")
            started.process.send_signal(signal.SIGTERM)
            why = [await asyncio.to_thread(started.line) for _ in range(3)]
            assert why == ["the event loop is blocked, and cannot end its turns"] * 3
            assert started.process.poll() is None
            assert gateway.markers() == []
            started.kill()
            await turn

    with stuck(tmp_path, "blocked", ONLY_LOOKS) as (gateway, started):
        run(test(gateway, started))


def test_where_it_listens_is_in_the_state_directory(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(Gate().model.stream)) as gateway:
            path = gateway.state / "gateway.json"
            found = json.loads(path.read_text())
            assert (found["pid"], found["url"]) == (os.getpid(), gateway.url)
            assert found["started"].endswith("Z")
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    run(test())


def test_a_port_in_use_is_said_to_be_in_use(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Gate().model) as gateway:
            port = gateway.url.rpartition(":")[2]
            path = tmp_path / "second.toml"
            path.write_text(f"[gateway]\nport = {port}\n")
            config = load_config(str(path))
            with pytest.raises(StoreError, match="in use") as caught:
                await serve(config, str(tmp_path / "other"), lambda url: None)
            assert "--port" in caught.value.hint
            assert (gateway.state / "gateway.json").exists()

    run(test())


def test_a_wish_before_the_start_is_heard(tmp_path: Path) -> None:
    async def test() -> None:
        stop = Stop()
        stop.wish()
        agents = {"main": Agent("main", Gate().model, "")}
        config = load_config(str(config_file(tmp_path)))
        announced: list[str] = []
        await serve(config, str(tmp_path / "s"), announced.append, stop=stop, agents=agents)
        assert announced == []

    run(test())


def test_the_end_waits_for_nobody_who_was_forked() -> None:
    """A child has the pipe of the signals as well, so that its end never comes."""
    loop = asyncio.new_event_loop()
    attendant = Attendant(loop, stop=list, reload=list, drain=lambda: 0.0)
    with attendant:
        forked = os.dup(attendant._writer)
        leaving = threading.Timer(PATIENCE, os.close, (forked,))
        leaving.start()
    assert leaving.is_alive()
    leaving.cancel()
    os.close(forked)
    loop.close()


def test_the_last_end_needs_no_thread(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process at its limit of threads still marks its turns, and ends."""

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(SystemClock, "sleep", lambda _: None)
    loop = asyncio.new_event_loop()
    attendant = Attendant(loop, stop=list, reload=list, drain=lambda: 0.0)
    with turnlock.open_store(state) as store:
        with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            monkeypatch.setattr(workers, "submit", refuse)
            attendant._end("the event loop is blocked")
            turn.check()
        assert ended == [0]
        assert kinds(store) == ["turn", "user:1", "cancelled"]
    loop.close()
