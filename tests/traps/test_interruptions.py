"""Exceptions from outside, at every point of a turn: signals, other threads, no memory, no stack.

Ctrl-C is an exception that a signal's handler raises between two steps of whatever the main thread
is doing; time-out libraries throw such exceptions into any thread. CPython lets one in where a
function begins and where a call of C code has returned. The sweep raises at each of these points in
turn, and in all of them the session is free or gets free, and the transcript stays in order.
"""

from __future__ import annotations

import contextvars
import ctypes
import inspect
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import turnlock
import turnlock.session
from tests.helpers import PATIENCE, child, eventually, kinds, process_state
from turnlock.store import Store
from turnlock.turns.queue import queues
from turnlock.turns.sync import OpenTurn

SOURCE = str(Path(turnlock.__file__).parent)
# A block's end can be cut off before its first step: nothing in Python runs earlier than that.
UNPROTECTED = {"TurnBlock.__exit__", "OpenTurn.exit"}


class Interruption(BaseException):
    pass


class Interrupter:
    """Raises at the n-th point; ``where`` is the function, or None when there are not so many."""

    def __init__(self, number: int, error: BaseException) -> None:
        self._left = number
        self._error = error
        self.where: str | None = None

    def __call__(self, frame: FrameType, event: str, called: Any) -> None:
        file = frame.f_code.co_filename
        if event not in ("call", "c_return") or not file.startswith((SOURCE, threading.__file__)):
            return
        if in_finalizer(frame):
            return
        self._left -= 1
        if self._left == 0:
            sys.setprofile(None)
            self.where = frame.f_code.co_qualname
            raise self._error


def in_finalizer(frame: FrameType | None) -> bool:
    """What is raised in a ``__del__`` ends there: Python swallows it, and nobody is interrupted.

    A generator that is thrown away half used is closed in the same way.
    """
    if frame is not None and frame.f_code.co_flags & inspect.CO_GENERATOR:
        return True
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def one_turn(store: Store, key: str) -> None:
    with store.turn(key) as turn:
        turn.append(turnlock.user("1"))


def interrupted_at(number: int, turn: Callable[[], None], error: BaseException) -> str | None:
    interrupter = Interrupter(number, error)
    sys.setprofile(interrupter)
    try:
        turn()
    except type(error):
        pass
    finally:
        sys.setprofile(None)
    return interrupter.where


def sweep(store: Store, key: str, error: Callable[[], BaseException]) -> tuple[int, Counter[str]]:
    """How many points there were, and those after which only its limit freed the session."""
    late: Counter[str] = Counter()
    sessions: set[str] = set()
    number = 0
    while True:
        number += 1
        session = key.format(number)
        # Each in a context of its own: what cuts off a block's end leaves the turn in its context.
        where = contextvars.copy_context().run(
            interrupted_at, number, partial(one_turn, store, session), error()
        )
        if where is None:
            break
        sessions.add(session)
        try:
            one_turn_at_once(store, session)
        except turnlock.TurnlockError:
            late[where] += 1
            pass_the_limit(store)
            one_turn_at_once(store, session)
        assert store.statistics().held == 0, where
    for session in sessions:
        assert_in_order(kinds(store, session))
    return number - 1, late


def one_turn_at_once(store: Store, key: str) -> None:
    with store.turn(key, wait=0) as turn:
        turn.append(turnlock.user("next"))


def pass_the_limit(store: Store) -> None:
    for lease in store._runtime.leases():
        lease.taken -= 1000
    store.check_leases()


def assert_in_order(seen: list[str]) -> None:
    """Each opening is followed by its messages and one terminal entry."""
    open_turn = False
    for kind in seen:
        if kind.startswith("user:"):
            assert open_turn, seen
        else:
            assert open_turn == (kind != "turn"), seen
            open_turn = kind == "turn"
    assert not open_turn, seen


@pytest.mark.parametrize(
    ("key", "error"),
    [("main/a", KeyboardInterrupt), ("main/new-{}", Interruption), ("main/a", MemoryError)],
    ids=["again-ctrl-c", "first", "again-no-memory"],
)
def test_an_exception_at_any_point_of_a_turn_leaves_its_session_free(
    store: Store, key: str, error: type[BaseException]
) -> None:
    one_turn(store, "main/warm")
    points, late = sweep(store, key, error)
    assert points > 100
    assert set(late) <= UNPROTECTED, late


def test_without_what_ends_it_all_the_same_sessions_stay_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault bites: at some point nothing frees the session, not even its limit."""
    monkeypatch.setattr(OpenTurn, "give_up", lambda self, error: None)
    monkeypatch.setattr(OpenTurn, "_end_all_the_same", lambda self: None)
    one_turn(store, "main/warm")
    with pytest.raises((turnlock.SessionBusy, turnlock.AlreadyHeld)):
        sweep(store, "main/new-{}", Interruption)


SIGNALS = """
    import random, signal, turnlock
    class Alarm(BaseException): pass
    def ring(*_): raise Alarm
    signal.signal(signal.SIGALRM, ring)
    store = turnlock.open_store(sys.argv[1], durability="none")
    chance = random.Random(int(sys.argv[2]))
    def one_turn():
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
    one_turn()
    rung = 0
    for number in range(400):
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(20e-6, 800e-6))
            for _ in range(3):
                one_turn()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Alarm:
            rung += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            with store.turn("main/a", wait=0):
                pass
        except turnlock.TurnlockError:
            # The end of the block was cut off before its first step: its limit frees it.
            for lease in store._runtime.leases():
                lease.taken -= 1000
            assert store.check_leases()
            with store.turn("main/a", wait=0):
                pass
    print(rung, store.statistics().held, flush=True)
"""


@pytest.mark.processes
def test_real_signals_at_random_moments_wedge_nothing(state: Path) -> None:
    """As the sweep, with the kernel choosing the point; the seed says when, not where."""
    with child(SIGNALS, state, 7) as process:
        rung, held = map(int, process.line(50).split())
        assert process.ended() == 0
    assert rung > 40, "the alarms have to ring inside of turns for this to mean anything"
    assert held == 0
    assert_in_order(kinds(turnlock.open_store(state)))


CTRL_C = """
    import threading, turnlock
    from turnlock.events import TurnQueued
    store = turnlock.open_store(sys.argv[1])
    inside, over = threading.Event(), threading.Event()
    def queued(event):
        if isinstance(event, TurnQueued):
            print("queued", flush=True)
    store.subscribe(queued)
    def hold():
        with store.turn("main/a"):
            inside.set()
            over.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    try:
        with store.turn("main/a", wait=None):
            print("taken?", flush=True)
    except KeyboardInterrupt:
        over.set()
        thread.join()
    with store.turn("main/a", wait=0):
        print("taken", flush=True)
"""


class TestInTheQueue:
    @pytest.mark.processes
    def test_ctrl_c_in_the_queue_leaves_no_ghost(self, state: Path) -> None:
        """While another thread has the session. The ghost would be the next to have it."""
        with child(CTRL_C, state) as process:
            process.expect("queued")
            eventually(lambda: process_state(process.pid) == "S")
            process.process.send_signal(signal.SIGINT)
            process.expect("taken")
            assert process.ended() == 0

    def test_an_interrupted_leaver_still_wakes_the_next(self, store: Store) -> None:
        """The head has left the queue, and its successor does not know yet."""
        got = threading.Event()

        def wait() -> None:
            with store.turn("main/a", wait=None):
                got.set()

        identity = store._backend.identity(turnlock.session.parse_key("main/a"))
        thread = threading.Thread(target=wait)
        with pytest.raises(Interruption), store.turn("main/a"):
            thread.start()
            eventually(lambda: len(queues.turn_ids(identity)) == 2)
            waiting = list(queues._queues[identity])[1]
            told = waiting.on_grant

            def interrupted_once() -> None:
                waiting.on_grant = told
                raise Interruption

            waiting.on_grant = interrupted_once
        assert got.wait(PATIENCE)
        thread.join()


def throw_into(thread: int, error: type[BaseException]) -> None:
    """What time-out libraries do to a thread that does not end."""
    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(error)
    )
    assert raised == 1


class TestThrownIntoAThread:
    def test_a_holder_that_is_shot_at_leaves_a_marker(self, store: Store) -> None:
        inside, shot = threading.Event(), threading.Event()
        seen: list[BaseException] = []

        def hold() -> None:
            try:
                with store.turn("main/a") as turn:
                    turn.append(turnlock.user("1"))
                    inside.set()
                    while not shot.wait(0.001):
                        pass
            except Interruption as error:
                seen.append(error)

        thread = threading.Thread(target=hold)
        thread.start()
        assert inside.wait(PATIENCE)
        assert thread.ident is not None
        throw_into(thread.ident, Interruption)
        thread.join(PATIENCE)
        assert len(seen) == 1
        assert kinds(store) == ["turn", "user:1", "cancelled"]
        assert not store.locks()


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit, Interruption])
def test_whatever_a_block_raises_is_a_cancellation_and_passes(
    store: Store, error: type[BaseException]
) -> None:
    with pytest.raises(error), store.turn("main/a") as turn:
        turn.append(turnlock.user("1"))
        raise error
    assert kinds(store) == ["turn", "user:1", "cancelled"]
    assert not store.locks()


class TestWithoutAStack:
    def test_a_turn_at_any_depth_of_the_stack_leaves_its_session_free(self, store: Store) -> None:
        """From a depth at which not even the take fits to one at which all of it does."""
        one_turn(store, "main/a")
        failed = 0
        for room in range(4, 60):
            try:
                at_depth(room, lambda: one_turn(store, "main/a"))
            except RecursionError:
                failed += 1
            eventually(lambda: is_takable(store))
        assert 0 < failed < 56, "it has to fail somewhere, and work somewhere"
        assert_in_order(kinds(store))

    def test_a_block_that_used_up_its_stack_is_marked(self, store: Store) -> None:
        def deeper() -> None:
            deeper()

        with pytest.raises(RecursionError), store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
            deeper()
        assert kinds(store) == ["turn", "user:1", "error"]


def at_depth(room: int, job: Callable[[], None]) -> None:
    """Run a job so that about ``room`` more frames fit on the stack."""
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + room)
    try:
        job()
    finally:
        sys.setrecursionlimit(limit)


def is_takable(store: Store) -> bool:
    try:
        one_turn_at_once(store, "main/a")
    except turnlock.SessionBusy:
        for lease in store._runtime.leases():
            lease.taken -= 1000
        store.check_leases()
        return False
    return True


NO_MEMORY = """
    import logging, _testcapi, turnlock
    logging.disable()
    store = turnlock.open_store(sys.argv[1], durability="none")
    def one_turn():
        with store.turn("main/a") as turn:
            turn.append(turnlock.user("1"))
    one_turn()
    failed = 0
    for number in range(0, 1500, 3):
        try:
            _testcapi.set_nomemory(number, number + 1)
            try:
                one_turn()
            finally:
                _testcapi.remove_mem_hooks()
        except (MemoryError, RuntimeError, OSError, turnlock.TurnlockError):
            failed += 1
        try:
            with store.turn("main/a", wait=0):
                pass
        except turnlock.TurnlockError:
            for lease in store._runtime.leases():
                lease.taken -= 1000
            store.check_leases()
            with store.turn("main/a", wait=5):
                pass
    print(failed, store.statistics().held, flush=True)
"""


@pytest.mark.processes
def test_an_allocation_that_fails_at_any_point_wedges_nothing(state: Path) -> None:
    """The allocator itself says no, once, at the n-th time it is asked."""
    pytest.importorskip("_testcapi", reason="this Python has no allocator that can be made to fail")
    with child(NO_MEMORY, state) as process:
        ended = process.process.wait(50)
        if ended == 0:
            failed, held = map(int, process.line().split())
            assert failed > 20
            assert held == 0
    # Some Pythons crash when they get no memory at some point of their own. That is an end as well.
    assert ended in (0, -signal.SIGSEGV, -signal.SIGABRT)
    with turnlock.open_store(state).turn("main/a", wait=0):
        pass
    assert_in_order(kinds(turnlock.open_store(state)))
