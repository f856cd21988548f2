"""Events as they happen: in order, resumable, gaps told; nobody waits for who does not read."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

import turnlock
from turnlock import events
from turnlock.clock import SystemClock
from turnlock.config import load_config
from turnlock.gateway import Agent, Gateway, Pace, create_app
from turnlock.gateway.broadcast import Broadcast, Gap
from turnlock.gateway.native.events import LISTENERS_MAX
from turnlock.gateway.web import Web, bound, url_of

from .raw import Line, get, line, request
from .serving import QUICK, Scripted, Served, ask, echo, eventually, run, served
from .test_gateway_waiting import PATIENT, Gate, held

# Parsing


class Told(NamedTuple):
    """``name`` is None for what is no event: a comment, or an id alone."""

    name: str | None
    facts: Any
    identity: str | None


def told(block: bytes) -> Told:
    fields = dict(one.split(": ", 1) for one in block.decode("ascii").split("\n") if one)
    facts = json.loads(fields["data"]) if "data" in fields else fields.get("")
    return Told(fields.get("event"), facts, fields.get("id"))


class Stream:
    """One listener."""

    def __init__(self, connection: Line) -> None:
        self._connection = connection
        self._chunks = connection.chunks()
        self._pending = b""

    async def next(self) -> Told:
        """The next block, comment or not."""
        async with asyncio.timeout(15):
            while b"\n\n" not in self._pending:
                self._pending += await anext(self._chunks)
        block, _, self._pending = self._pending.partition(b"\n\n")
        return told(block)

    async def event(self) -> Told:
        while (one := await self.next()).name is None:
            pass
        return one

    async def names(self, number: int) -> list[str | None]:
        return [(await self.event()).name for _ in range(number)]


@asynccontextmanager
async def listening(gateway: Served, query: str = "", **headers: Any) -> AsyncIterator[Stream]:
    async with line(gateway) as connection:
        await connection.send(request(gateway, f"/events{query}", method="GET", **headers))
        head = await connection.head()
        assert head.status == 200
        assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "no-store" in head.headers["cache-control"]
        yield Stream(connection)


def echoing(tmp_path: Path) -> Any:
    return served(tmp_path, Scripted(echo), limits=PATIENT)


PHASES = ["append", "model", "append"]
TURN = ["TurnStarted", *("TurnProgress" for _ in PHASES), "TurnReleased"]

# What is told


def test_a_turn_is_told_as_it_goes(tmp_path: Path) -> None:
    async def test() -> None:
        async with echoing(tmp_path) as gateway, gateway.client() as client:
            async with listening(gateway) as stream:
                first = await stream.event()
                assert (first.name, first.facts) == ("listening", {"session": None})
                assert await ask(client, "hello") == "re: hello"
                heard = [await stream.event() for _ in TURN]
            assert [one.name for one in heard] == TURN
            assert [one.facts["what"] for one in heard[1:-1]] == PHASES
            assert {one.facts["session"] for one in heard} == {"main/a"}
            assert len({one.facts["turn_id"] for one in heard}) == 1
            assert all(one.facts["at"].endswith("Z") for one in heard)
            run_id, _, number = str(first.identity).rpartition("-")
            numbers = range(int(number) + 1, int(number) + 1 + len(heard))
            assert [one.identity for one in heard] == [f"{run_id}-{n}" for n in numbers]

    run(test())


@pytest.mark.parametrize("kind", events.Event.__args__, ids=lambda kind: kind.__name__)
def test_every_event_can_be_told(kind: Any) -> None:
    made = kind(*["\x1b\u202e\ud800\x7f"] * len(kind._fields))

    async def test() -> None:
        async with bare() as (gateway, reached), listening(reached) as stream:
            await stream.event()
            gateway.broadcast.on_event(made)
            one = await stream.event()
            assert one.name == kind.__name__
            assert set(one.facts) == {"at", *kind._fields}

    run(test())


def test_a_revocation_is_told_with_its_reason_and_where_it_hung(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client(max_retries=0) as client,
            listening(gateway) as stream,
        ):
            turn = await held(gateway, client, gate)
            (lock,) = json.loads((await get(gateway, "/locks")).body)["locks"]
            body = json.dumps({"turn_id": lock["turn_id"]}).encode()
            async with line(gateway) as connection:
                await connection.send(request(gateway, "/sessions/main/a/release", body=body))
                assert (await connection.answer()).status == 200
            while (one := await stream.event()).name != "TurnRevoked":
                pass
            assert (one.facts["turn_id"], one.facts["reason"]) == (lock["turn_id"], "operator")
            assert one.facts["stack"]
            await asyncio.wait({turn})
            assert turn.exception() is not None

    run(test())


def test_only_one_session_is_told_of_when_it_is_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with echoing(tmp_path) as gateway, gateway.client() as client:
            async with listening(gateway, "?session=main/b") as stream:
                first = await stream.event()
                assert first.facts == {"session": "main/b"}
                await ask(client, "x", session="a")
                await ask(client, "y", session="b")
                heard = [await stream.event() for _ in TURN]
                assert {one.facts["session"] for one in heard} == {"main/b"}
            bad = await get(gateway, "/events?session=x")
            assert (bad.status, bad.error()["param"]) == (400, "session")

    run(test())


def test_what_concerns_no_session_concerns_each() -> None:
    async def test() -> None:
        async with bare() as (gateway, reached), listening(reached, "?session=main/b") as stream:
            await stream.event()
            gateway.broadcast.on_event(events.ClockGap(7.0))
            assert (await stream.event()).facts["seconds"] == 7.0

    run(test())


def test_silence_is_kept_alive(tmp_path: Path) -> None:
    async def test() -> None:
        async with echoing(tmp_path) as gateway, listening(gateway) as stream:
            await stream.event()
            for _ in range(3):
                assert await stream.next() == Told(None, "keepalive", None)

    run(test())


# Going on where one was


def test_who_comes_back_misses_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with echoing(tmp_path) as gateway, gateway.client() as client:
            async with listening(gateway) as stream:
                seen = await stream.event()
            await ask(client, "while it was away")
            async with listening(gateway, last_event_id=str(seen.identity)) as stream:
                first = await stream.event()
                assert (first.name, first.identity) == ("listening", seen.identity)
                missed = [await stream.event() for _ in TURN]
            assert [one.name for one in missed] == TURN
            # In the middle as well, and at the very end.
            async with listening(gateway, last_event_id=str(missed[2].identity)) as stream:
                assert await stream.names(3) == ["listening", *TURN[3:]]
            async with listening(gateway, last_event_id=str(missed[-1].identity)) as stream:
                await ask(client, "next")
                assert await stream.names(2) == ["listening", "TurnStarted"]

    run(test())


def test_who_listens_to_one_session_keeps_its_place_through_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with echoing(tmp_path) as gateway, gateway.client() as client:
            async with listening(gateway, "?session=main/b") as stream:
                first = await stream.event()
                await ask(client, "x", session="a")
                place = first.identity
                while str(place).rpartition("-")[2] != str(len(TURN)):
                    place = (await stream.next()).identity or place
            async with listening(gateway, last_event_id=str(place)) as stream:
                assert (await stream.event()).identity == place

    run(test())


def test_an_id_of_a_former_run_is_known_for_one(tmp_path: Path) -> None:
    async def seen(gateway: Served) -> str:
        async with gateway.client() as client, listening(gateway) as stream:
            await ask(client, "x")
            await stream.names(3)
            return str((await stream.event()).identity)

    async def test() -> None:
        async with echoing(tmp_path) as gateway:
            old = await seen(gateway)
        async with echoing(tmp_path) as gateway:
            await seen(gateway)
            async with listening(gateway, last_event_id=old) as stream:
                assert await stream.names(2) == ["listening", "gap"]
                assert await stream.names(len(TURN)) == TURN
            async with listening(gateway, last_event_id=old) as stream:
                await stream.event()
                gap = await stream.event()
                assert gap.facts == {"reason": "restarted", "lost": None}

    run(test())


@pytest.mark.parametrize("identity", ["x", "-1", "17", "x-", "x-y", "x-1e3", "x-" + "9" * 200])
def test_an_id_that_is_none_is_a_gap(gateway: Served, identity: str) -> None:
    async def test() -> None:
        async with listening(gateway, last_event_id=identity) as stream:
            assert await stream.names(2) == ["listening", "gap"]

    run(test())


def test_two_ids_are_none(gateway: Served) -> None:
    async def test() -> None:
        for bad in ("a\r\nlast-event-id: b", "", "x" * 256):
            answer = await get(gateway, "/events", last_event_id=bad)
            assert answer.status == 400

    run(test())


def event(number: int, size: int = 0) -> events.Event:
    return events.TurnProgress("main/a", str(number), "x" * size)


def test_the_ring_keeps_the_last_ones_and_says_how_many_are_gone() -> None:
    async def test() -> None:
        ring = Broadcast(SystemClock(), size=4)
        assert ring.resume(ring.identity(0)) == (0, None, 0)
        for number in range(1, 11):
            ring.on_event(event(number))
        assert [one.number for one in ring.behind(6) or ()] == [7, 8, 9, 10]
        assert [one.number for one in ring.behind(9) or ()] == [10]
        assert ring.behind(10) == []
        assert ring.behind(5) is None
        assert ring.resume(ring.identity(8)) == (8, None, 0)
        assert ring.resume(ring.identity(6)) == (6, None, 0)
        assert ring.resume(ring.identity(2)) == (6, Gap.OVERRUN, 4)
        assert ring.resume(ring.identity(11)) == (6, Gap.UNKNOWN, None)
        assert ring.resume("other-8") == (6, Gap.RESTARTED, None)

    run(test())


def test_events_of_many_threads_are_each_told_once_and_in_one_order() -> None:
    async def test() -> None:
        ring = Broadcast(SystemClock())
        barrier = threading.Barrier(4)

        def emit(first: int) -> None:
            barrier.wait(10)
            for number in range(first, first + 200):
                ring.on_event(event(number))

        jobs = [asyncio.to_thread(emit, 1000 * n) for n in range(4)]
        emitting = asyncio.gather(*jobs)
        heard: list[int] = []
        while len(heard) < 800:
            await ring.wait(len(heard), 10)
            new = ring.behind(len(heard))
            assert new
            assert [one.number for one in new] == list(
                range(len(heard) + 1, len(heard) + 1 + len(new))
            )
            heard += [int(getattr(one.event, "turn_id", "")) for one in new]
        await emitting
        assert len(set(heard)) == 800
        for n in range(4):
            mine = [number for number in heard if number // 1000 == n]
            assert mine == sorted(mine)

    run(test())


# Who does not read


@asynccontextmanager
async def bare(pace: Pace = QUICK) -> AsyncIterator[tuple[Gateway, Served]]:
    """A gateway over a store in memory, of which the test has the inside as well."""
    token = "t" * 20
    async with turnlock.open_store("memory:") as store:
        agents = {"main": Agent("main", Scripted(echo), "")}
        gateway = Gateway(load_config("/dev/null"), store, agents, pace=pace)
        with bound("127.0.0.1", 0) as listener:
            web = Web(create_app(gateway, token=token), listener, pace)
            await web.start()
            reached = Reached(url_of(listener), Path("/nowhere"))
            reached.given = token
            try:
                yield gateway, reached
            finally:
                await gateway.close()
                await web.close()


class Reached(Served):
    given = ""

    @property
    def token(self) -> str:
        return self.given


@asynccontextmanager
async def deaf(gateway: Served) -> AsyncIterator[Line]:
    """A listener with a small buffer that reads only what a test reads."""
    parts = urlsplit(gateway.url)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plain, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=4096)
    try:
        connection = Line(reader, writer)
        await connection.send(request(gateway, "/events", method="GET"))
        assert (await connection.head()).status == 200
        yield connection
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


BIG = 20_000_000  # bytes: more than any buffer between here and there


def storm(gateway: Gateway, number: int) -> None:
    for n in range(number):
        gateway.broadcast.on_event(event(n, BIG // 100))


def test_who_reads_nothing_is_cut_and_holds_up_nobody() -> None:
    async def test() -> None:
        pace = QUICK._replace(slow=0.3)
        async with bare(pace) as (gateway, reached), deaf(reached) as connection:
            storm(gateway, 100)
            async with reached.client() as client:
                assert await ask(client, "hello") == "re: hello"
            await eventually(lambda: gateway.listeners == 0, 15)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                while True:
                    await connection.reader.readexactly(65536)

    run(test())


def test_who_falls_behind_the_ring_is_dropped_with_the_reason() -> None:
    async def test() -> None:
        async with bare() as (gateway, reached), deaf(reached) as connection:
            storm(gateway, 100)
            # It is in the middle of sending now, and the ring goes on without it.
            await asyncio.sleep(0)
            for number in range(5000):
                gateway.broadcast.on_event(event(number))
            stream = Stream(connection)
            while (one := await stream.event()).name != "dropped":
                pass
            assert one.facts == {"reason": "too slow"}

    run(test())


def test_listeners_are_bounded_and_leave_their_places(tmp_path: Path) -> None:
    async def test() -> None:
        async with bare() as (gateway, reached):
            async with AsyncExitStack() as stack:
                for _ in range(LISTENERS_MAX):
                    await stack.enter_async_context(listening(reached))
                refused = await get(reached, "/events")
                assert (refused.status, refused.error()["code"]) == (503, "too_many_listeners")
                assert int(refused.headers["retry-after"]) > 0
            await eventually(lambda: gateway.listeners == 0)
            async with listening(reached) as stream:
                await stream.event()

    run(test())


def test_a_head_of_events_ends(gateway: Served) -> None:
    async def test() -> None:
        async with line(gateway) as connection:
            data = request(gateway, "/events", method="HEAD", connection="close")
            await connection.send(data)
            assert (await connection.head()).status == 200
            assert await connection.end() == b""

    run(test())


def test_a_listener_hears_of_the_drain_to_its_end(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=f"{PATIENT[:-3]}8.0") as gateway,
            gateway.client() as client,
            listening(gateway) as stream,
        ):
            first = await held(gateway, client, gate)
            gateway.stop.wish()
            while (await get(gateway, "/healthz")).status == 200:
                pass
            async with listening(gateway) as late:
                await late.event()
                gate.opened.set()
                assert await first == "re: hold"
                for one in (stream, late):
                    heard: list[Told] = []
                    while not heard or heard[-1].name != "end":
                        heard.append(await one.event())
                    assert "TurnReleased" in [each.name for each in heard]
                    assert heard[-1].facts == {"reason": "shutting down"}

    run(test())


# Statistics


def test_statistics_count_what_was_and_say_how_old_what_hangs_is(tmp_path: Path) -> None:
    async def statistics(gateway: Served) -> Any:
        answer = await get(gateway, "/statistics")
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        return json.loads(answer.body)

    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=f"wait = 0.1\n{PATIENT}") as gateway,
            gateway.client(max_retries=0) as client,
        ):
            fresh = await statistics(gateway)
            assert (fresh["version"], fresh["draining"]) == (turnlock.__version__, False)
            assert fresh["oldest_seconds"] == {"held": None, "progress": None, "zombie": None}
            assert set(fresh["exchanges"].values()) == {0}
            first = await held(gateway, client, gate)
            with pytest.raises(Exception, match="busy"):
                await ask(client, "b")
            async with listening(gateway) as stream:
                last = (await stream.event()).identity
                busy = await statistics(gateway)
            assert busy["exchanges"] == {
                "under_way": 1,
                "waiting": 0,
                "begun": 2,
                "answered": 0,
                "refused": 1,
            }
            assert busy["events"] == {"listeners": 1, "last_id": last}
            assert busy["store"]["held"] == 1
            assert busy["oldest_seconds"]["held"] >= busy["oldest_seconds"]["progress"] >= 0
            assert busy["uptime_seconds"] > 0
            gate.opened.set()
            await first
            done = await statistics(gateway)
            assert (done["exchanges"]["answered"], done["store"]["held"]) == (1, 0)

    run(test())
