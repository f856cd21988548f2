"""Runs of different processes on one session, of which some die or are stopped in the middle."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse

import turnlock
from tests.helpers import LONG_PATIENCE, eventually, process_state

from .scripted import KEY, ask, runner_of, said, says, told

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

# ADK is imported once, and not by each process: that takes seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.frameworks.google_adk.program"])


class Other:
    """A process that runs what it is told to on the session."""

    def __init__(self, process: Any, peer: Any) -> None:
        self.process = process
        self._peer = peer

    def tell(self, text: str) -> None:
        self._peer.send(text)

    def outcome(self) -> object:
        assert self._peer.poll(LONG_PATIENCE)
        return self._peer.recv()

    def expect(self, wanted: object) -> None:
        assert self.outcome() == wanted

    def stop(self) -> None:
        """SIGSTOP, and not before it has taken effect."""
        os.kill(self.process.pid, signal.SIGSTOP)
        eventually(lambda: process_state(self.process.pid) == "T")

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def _start(peer: Any, state: Path, max_hold: float) -> None:
    from .program import main

    main(peer, state, max_hold)


@contextmanager
def other(state: Path, max_hold: float = 300.0) -> Iterator[Other]:
    mine, theirs = FORKS.Pipe()
    process = FORKS.Process(target=_start, args=(theirs, state, max_hold), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Other(process, mine)
    finally:
        process.kill()
        process.join()
        process.close()
        mine.close()


def turns(short: list[str]) -> list[list[str]]:
    """The transcript's turns; fails where one is not contiguous."""
    found = [
        list(rest)
        for opening, rest in itertools.groupby(short, lambda one: one == "turn")
        if not opening
    ]
    assert short.count("turn") == len(found)
    return found


def test_turns_of_two_processes_follow_each_other_whole(store: turnlock.Store, state: Path) -> None:
    words = [f"{process}{number}" for process in "ab" for number in range(4)]
    with ExitStack() as stack:
        both = [stack.enter_context(other(state)) for _ in "ab"]
        for process, name in zip(both, "ab", strict=True):
            for number in range(4):
                process.tell(f"{name}{number}")
        for process, name in zip(both, "ab", strict=True):
            for number in range(4):
                process.expect([f"re {name}{number}"])
    found = turns(told(store))
    assert sorted(found) == [[f"user:{word}", f"assistant:re {word}", "end"] for word in words]


@pytest.mark.parametrize(("word", "line"), [("hang", "asked"), ("work", "working")])
def test_a_process_that_dies_in_its_turn_leaves_a_session_that_goes_on(
    store: turnlock.Store, state: Path, word: str, line: str
) -> None:
    """In a model's call, and in two tools' calls; the next request is one that any model takes."""
    with other(state) as process:
        process.tell("before")
        process.expect(["re before"])
        process.tell(word)
        process.expect(line)
        process.kill()
    requests = []

    async def script(request: LlmRequest) -> AsyncIterator[LlmResponse]:
        requests.append(said(request))
        yield says("well")

    async def work() -> str:
        return ""

    assert asyncio.run(ask(runner_of(store, script, [work]), "after")) == ["well"]
    cut = ["call:work", "call:work", "result:work", "result:work"] if word == "work" else []
    assert requests == [
        ["user:before", "model:re before", f"user:{word}", *cut, "user:after"],
    ]
    first, dead, last = turns(told(store))
    assert first == ["user:before", "assistant:re before", "end"]
    assert dead[0] == f"user:{word}"
    assert dead[-1] == "interrupted"
    assert last == ["user:after", "assistant:well", "end"]


def test_the_answer_of_a_process_that_was_revoked_comes_too_late(
    store: turnlock.Store, state: Path
) -> None:
    """A loop that is blocked ends no run, but its session goes on, and it writes no more."""
    with other(state, 3.0) as process:
        process.tell("block")
        process.expect("asked")
        assert asyncio.run(ask(runner_of(store), "B")) == ["re B"]
        before = list(store.read(KEY))
        process.tell("go on")
        process.expect("revoked hold-limit")
        assert list(store.read(KEY)) == before
    assert turns(told(store)) == [["user:block", "hold-limit"], ["user:B", "assistant:re B", "end"]]


def test_a_stopped_process_is_superseded_and_wakes_up_fenced(
    store: turnlock.Store, state: Path
) -> None:
    with other(state, 3.0) as process:
        process.tell("block")
        process.expect("asked")
        process.stop()
        assert asyncio.run(ask(runner_of(store), "B")) == ["re B"]
        before = list(store.read(KEY))
        process.tell("go on")
        process.go_on()
        # Whether its own watchdog wakes first, or the run: it may know no more than that it lost.
        assert process.outcome() in ("revoked hold-limit", "revoked superseded")
        assert list(store.read(KEY)) == before
    eventually(lambda: store.locks() == [])
