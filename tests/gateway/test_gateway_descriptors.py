"""Descriptors: many turns have what they need, and where there are none nobody is flooded."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from turnlock.gateway.descriptors import CONNECTIONS_MAX, Seldom, connections_max, raise_limit

from ..helpers import Child, child
from .raw import chat, get, line, post, request
from .serving import BOUND, PROCESS, Served, config_file, run

LIMITED = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
"""
# On a line of its stdin it takes every descriptor that is left, on the next one it lets them go.
EATS = """
    import os, threading
    def eat():
        sys.stdin.readline()
        eaten = []
        try:
            while True:
                eaten.append(os.dup(1))
        except OSError:
            print("full", flush=True)
        sys.stdin.readline()
        for one in eaten:
            os.close(one)
        print("free", flush=True)
    threading.Thread(target=eat, daemon=True).start()
"""
# On a line of its stdin it shuts its listeners down.
SHUTS = """
    import os, socket, threading
    def shut():
        sys.stdin.readline()
        for number in os.listdir("/proc/self/fd"):
            try:
                one = socket.socket(fileno=os.dup(int(number)))
            except OSError:
                continue
            with one:
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    one.shutdown(socket.SHUT_RDWR)
        print("shut", flush=True)
    threading.Thread(target=shut, daemon=True).start()
"""


@contextmanager
def limited(tmp_path: Path, soft: int, hard: int, more: str = "") -> Iterator[tuple[Served, Child]]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < hard:
        pytest.skip(f"not run here: no more than {most} files may be open")
    path = config_file(tmp_path, limits="first_token = 20\nidle = 20\nturn = 30\ndrain = 1")
    code = LIMITED.format(soft=soft, hard=hard) + more + PROCESS
    with child(code, tmp_path / "state", path) as started:
        yield Served(started.line(), tmp_path / "state"), started


def log_of(started: Child) -> str:
    started.process.terminate()
    assert started.process.stderr is not None
    log = started.process.stderr.read().decode()
    assert started.ended() == 0
    return log


def test_more_turns_run_at_once_than_the_soft_limit_has_descriptors_for(tmp_path: Path) -> None:
    async def test(gateway: Served) -> None:
        asked = (post(gateway, chat("/slow 1", user=f"s{n}")) for n in range(40))
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 40

    with limited(tmp_path, soft=80, hard=1000) as (gateway, started):
        run(test(gateway))
        assert "Too many open files" not in log_of(started)


def test_connections_without_a_request_take_no_descriptor_from_a_turn(tmp_path: Path) -> None:
    async def test(gateway: Served) -> None:
        async with line(gateway) as mine, AsyncExitStack() as stack:
            await mine.send(request(gateway, "/healthz", method="GET"))
            assert (await mine.answer()).status == 200
            others = [await stack.enter_async_context(line(gateway)) for _ in range(300)]
            # Among the last, so that all are accepted before it.
            assert await others[-1].end() == b""
            for number in range(3):
                await mine.send(request(gateway, body=chat("hi", user=f"s{number}")))
                assert (await mine.answer()).status == 200
        async with asyncio.timeout(BOUND):
            while (await get(gateway, "/healthz")).status != 200:
                pass

    with limited(tmp_path, soft=256, hard=256) as (gateway, started):
        run(test(gateway))
        log = log_of(started)
        assert "Too many open files" not in log
        assert 1 <= log.count("further ones are refused") <= 3


def test_where_no_descriptor_is_left_the_log_says_so_seldom(tmp_path: Path) -> None:
    async def test(gateway: Served, started: Child) -> None:
        started.tell()
        await asyncio.to_thread(started.expect, "full")
        async with line(gateway) as waiting:
            assert started.process.stderr is not None
            said = [await asyncio.to_thread(started.process.stderr.readline) for _ in range(2)]
            assert b"clean-up" in said[0]
            assert b"no connection can be accepted: [Errno 24]" in said[1]
            started.tell()
            await asyncio.to_thread(started.expect, "free")
            await waiting.send(request(gateway, "/healthz", method="GET"))
            assert (await waiting.answer()).status == 200

    with limited(tmp_path, soft=256, hard=256, more=EATS) as (gateway, started):
        run(test(gateway, started))
        assert len(log_of(started).splitlines()) <= 5


def test_of_a_listener_that_was_shut_down_the_log_says_so_seldom(tmp_path: Path) -> None:
    """Its port is closed, and its loop is told of a connection that is none again and again."""
    with limited(tmp_path, soft=256, hard=256, more=SHUTS) as (_, started):
        started.tell()
        started.expect("shut")
        assert started.process.stderr is not None
        said = [started.process.stderr.readline() for _ in range(2)]
        assert b"clean-up" in said[0]
        assert b"no connection can be accepted: [Errno 22]" in said[1]
        assert len(log_of(started).splitlines()) <= 3


def test_the_soft_limit_is_raised_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    def raised(soft: int, hard: int, most: int) -> int:
        made = [soft]

        def take(kind: int, limits: tuple[int, int]) -> None:
            if not 0 <= limits[0] <= most:
                raise ValueError
            made[0] = limits[0]

        monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", take)
        raise_limit()
        return made[0]

    none = resource.RLIM_INFINITY
    assert raised(1024, 524_288, 1_000_000) == 524_288
    assert raised(256, none, 20_000) == 10_240
    assert raised(256, none, 100_000) == 65_536
    assert raised(80_000, none, 100_000) == 80_000
    assert raised(256, none, 300) == 256


def test_of_many_descriptors_a_connection_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def most(soft: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, soft))
        return connections_max()

    assert [most(soft) for soft in (10, 256, 1024, 4096)] == [1, 32, 160, 672]
    assert most(1_000_000) == most(resource.RLIM_INFINITY) == CONNECTIONS_MAX


def test_what_is_told_seldom_is_told_at_first_and_after_its_pause() -> None:
    seldom = Seldom(10.0)
    assert [seldom.is_time(now) for now in (5.0, 6.0, 14.9, 15.0, 16.0)] == [
        *(True, False, False, True, False)
    ]
