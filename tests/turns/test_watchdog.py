"""The watchdog's rule, and its thread on a clock that only the test moves."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers import eventually
from turnlock.backends import TakeRequest
from turnlock.backends.memory import MemoryBackend, MemoryLease
from turnlock.errors import StoreError
from turnlock.events import ClockGap, TurnRevoked
from turnlock.session import SessionKey
from turnlock.store import Store
from turnlock.testing import ManualClock
from turnlock.turns.lease import TRANSITIONS, Call, Lease, State
from turnlock.turns.queue import Ticket
from turnlock.turns.watchdog import GAP, Watchdog, deadline_of, give_back, overdue


def lease(**changes: Any) -> Lease:
    made = Lease(
        SessionKey("main", "a"),
        "T1",
        None,  # type: ignore[arg-type]
        MemoryLease(SessionKey("main", "a"), TakeRequest("T1", 10.0), (), 100.0),
        Ticket("identity", None, "T1", lambda: None),
        taken=100.0,
        max_hold=10.0,
        max_stall=None,
        frames=list,
        is_turn=True,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class TestTheRule:
    def test_a_lease_is_overdue_from_its_hold_limit_on(self) -> None:
        assert overdue([lease()], 109.999) == []
        (due,) = overdue([lease()], 110.0)
        assert (due.reason, due.deadline) == ("hold-limit", 110.0)

    def test_a_stall_counts_from_the_last_progress(self) -> None:
        stalling = lease(max_stall=3.0, progressed=104.0)
        assert deadline_of(stalling) == (107.0, "stall-limit")

    def test_a_call_counts_from_its_own_deadline(self) -> None:
        calling = lease(calls={1: Call("model", 105.0), 2: Call("tool", 104.0)})
        assert deadline_of(calling) == (104.0, "model-limit")

    def test_the_earliest_of_all_limits_is_the_reason(self) -> None:
        both = lease(max_stall=3.0, calls={1: Call("model", 101.0)})
        assert overdue([both], 500.0)[0].reason == "model-limit"

    @pytest.mark.parametrize("state", [s for s in State if s not in (State.HELD, State.ENDING)])
    def test_a_lease_that_is_over_is_not_overdue(self, state: State) -> None:
        assert overdue([lease(state=state)], 1e9) == []

    def test_a_lease_that_hangs_in_its_end_is(self) -> None:
        assert overdue([lease(state=State.ENDING)], 1e9) != []

    def test_one_overdue_lease_hides_no_other(self) -> None:
        leases = [lease(), lease(max_hold=1e6), lease()]
        assert [due.lease for due in overdue(leases, 200.0)] == [leases[0], leases[2]]


class TestGivingBack:
    def test_a_gap_moves_every_deadline(self) -> None:
        given = lease(max_stall=3.0, calls={1: Call("model", 105.0)})
        give_back(given, gap=50.0, slept=0.0)
        assert given.taken + given.max_hold + given.given_back == 160.0
        assert given.progressed == 150.0
        assert given.calls[1].deadline == 155.0

    def test_what_lay_before_the_gap_is_given_once(self) -> None:
        given = lease()
        give_back(given, gap=50.0, slept=1.0)
        assert given.given_back == 51.0
        give_back(given, gap=50.0, slept=1.0)
        assert given.given_back == 101.0

    def test_a_clock_that_is_always_late_sees_the_deadline_pass_all_the_same(self) -> None:
        stalled = lease()
        now, rounds = 100.0, 0
        while not overdue([stalled], now):
            sleeps = min(1.0, deadline_of(stalled)[0] - now)
            now += sleeps + 1.5
            give_back(stalled, gap=1.5, slept=sleeps)
            rounds += 1
            assert rounds < 100, "deferred for ever"
        assert now - 100.0 < 10.0 * 3.5


class TestStates:
    def test_the_table_is_complete(self) -> None:
        assert set(TRANSITIONS) == set(State)

    def test_a_refused_move_changes_nothing(self) -> None:
        for state in State:
            for target in State:
                one = lease(state=state, reason="before")
                allowed = target in TRANSITIONS[state]
                assert one.move(target, reason="after") is allowed
                assert one.state is (target if allowed else state)
                assert one.reason == ("after" if allowed else "before")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    with Store(MemoryBackend(clock=clock, pid=1), location="test", clock=clock) as store:
        yield store


@pytest.fixture
def hold(store: Store) -> Iterator[Callable[..., threading.Thread]]:
    """Holds a session in a thread of its own until the test is over."""
    over = threading.Event()
    threads = []

    def start(key: str, **limits: Any) -> threading.Thread:
        def run() -> None:
            try:
                with store.turn(key, **limits):
                    held.set()
                    over.wait()
            except Exception:  # noqa: BLE001 - revoked, which is what the test looks at
                pass

        held = threading.Event()
        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        assert held.wait(10)
        return thread

    yield start
    over.set()
    for thread in threads:
        thread.join()


Hold = Callable[..., threading.Thread]


def tick(clock: ManualClock, count: int) -> bool:
    """Let that many seconds pass, each seen by the watchdog; False, for who waits for more."""
    for _ in range(count):
        eventually(lambda: clock.waiting)
        clock.advance(1.0)
    return False


class TestTheThread:
    def test_it_revokes_at_the_deadline_and_not_before(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        hold("main/a", max_hold=10.0)
        tick(clock, 9)
        eventually(lambda: clock.waiting)
        assert store.check_leases() == []
        tick(clock, 1)
        eventually(lambda: store.statistics().revoked)
        assert store.statistics().revoked_by_reason == {"hold-limit": 1}

    def test_time_that_a_test_lets_pass_in_one_step_counts(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        """It is no standstill of the process, of which the turn would be given back all."""
        hold("main/a", max_hold=300.0)
        eventually(lambda: clock.waiting)
        clock.advance(301.0)
        eventually(lambda: store.statistics().revoked)
        assert store.statistics().clock_gaps == 0

    def test_check_leases_runs_the_rule_on_demand(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        hold("main/a", max_hold=10.0, turn_id="T1")
        hold("main/b", max_hold=20.0, turn_id="T2")
        clock._monotonic += 15.0  # nobody is woken
        assert store.check_leases() == ["T1"]

    def test_a_process_that_stood_still_kills_no_turn_when_it_goes_on(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        gaps: list[Any] = []
        store.subscribe(lambda event: gaps.append(event) if isinstance(event, ClockGap) else None)
        hold("main/a", max_hold=10.0)
        eventually(lambda: clock.waiting)
        clock.stand_still(500.0)
        eventually(lambda: gaps)
        assert store.check_leases() == []
        assert store.statistics().revoked == 0
        # It is given back once: from here the limit counts again.
        tick(clock, 11)
        eventually(lambda: store.statistics().revoked)

    def test_lateness_below_the_gap_is_not_given_back(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        hold("main/a", max_hold=1.0)
        eventually(lambda: clock.waiting)
        clock.stand_still(1.0 + GAP / 2)
        eventually(lambda: store.statistics().revoked)
        assert store.statistics().clock_gaps == 0

    def test_calls_that_get_on_while_it_reads_deadlines_do_not_have_it_read_them_again(
        self,
    ) -> None:
        """With thousands of turns there is always one that does, and it would never sleep."""
        clock, held = ManualClock(monotonic=100.0), [lease(max_hold=300.0)]

        def leases() -> list[Lease]:
            dog.expect(clock.monotonic() + 30.0)
            return held

        dog = Watchdog(clock, leases=leases, revoke=_ignore, verify=_ignore, on_gap=_ignore)
        dog.start()
        try:
            eventually(lambda: clock.waiting)
        finally:
            held.clear()
            dog.rest()

    def test_a_log_that_is_gone_does_not_end_it(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        refused: list[logging.LogRecord] = []

        class Gone(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                # A worker of an earlier test may still have something to say.
                if threading.current_thread().name == "turnlock-watchdog":
                    refused.append(record)
                    raise OSError(32, "broken pipe")

        hold("main/a", max_hold=10.0)
        eventually(lambda: clock.waiting)
        logging.getLogger("turnlock").addHandler(gone := Gone())
        try:
            clock.stand_still(500.0)
            eventually(lambda: store.statistics().clock_gaps)
            tick(clock, 11)
        finally:
            logging.getLogger("turnlock").removeHandler(gone)
        eventually(lambda: store.statistics().revoked)
        assert refused

    def test_one_lease_that_cannot_be_revoked_keeps_no_other_waiting(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        frozen = threading.Event()
        backend = store._backend
        supersede = backend.supersede

        def hang(session: SessionKey, *args: Any, **kwargs: Any) -> Any:
            if session.name == "frozen":
                frozen.wait()
            return supersede(session, *args, **kwargs)

        backend.supersede = hang  # type: ignore[method-assign]
        hold("main/frozen", max_hold=10.0)
        for number in range(5):
            hold(f"main/{number}", max_hold=10.0)
        try:
            tick(clock, 10)
            eventually(lambda: store.statistics().revoked == 5)
        finally:
            frozen.set()
        eventually(lambda: store.statistics().revoked == 6)

    def test_a_call_is_ended_once_however_often_the_fence_fails(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        """What it ends may be cleaning up by then, as a task that was cancelled does."""
        backend = store._backend
        supersede, failures = backend.supersede, iter(range(3))

        def fail_at_first(*args: Any, **kwargs: Any) -> Any:
            if next(failures, None) is not None:
                raise StoreError("main/a", "open", "the disk is gone")
            return supersede(*args, **kwargs)

        backend.supersede = fail_at_first  # type: ignore[method-assign]
        hold("main/a")
        ended: list[int] = []
        (held,) = store._runtime.leases()
        held.calls[1] = Call("tool", math.inf, lambda: ended.append(1))
        store.revoke("main/a")
        eventually(lambda: store.statistics().revoked)
        assert store.statistics().revocations_failed == 3
        assert ended == [1]

    def test_a_verification_that_hangs_keeps_no_other_waiting(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        """Several, one behind the other: whoever was asked for behind them is asked for."""
        frozen = threading.Event()
        backend = store._backend
        renew = backend.renew

        def hang(leases: Any) -> Any:
            if leases[0].session.name.startswith("frozen"):
                frozen.wait()
            return renew(leases)

        backend.renew = hang  # type: ignore[method-assign]
        for key in ("main/frozen-1", "main/frozen-2", "main/a", "main/b"):
            hold(key, max_hold=86400.0)
        backend._claims.clear()  # type: ignore[attr-defined]
        try:
            eventually(lambda: tick(clock, 1) or store.statistics().revoked == 2)
        finally:
            frozen.set()
        eventually(lambda: tick(clock, 1) or store.statistics().revoked == 4)

    def test_the_holder_is_told_although_its_fence_hangs(
        self, store: Store, clock: ManualClock, hold: Hold
    ) -> None:
        frozen, told = threading.Event(), threading.Event()
        backend = store._backend
        supersede = backend.supersede

        def hang(*args: Any, **kwargs: Any) -> Any:
            frozen.wait()
            return supersede(*args, **kwargs)

        backend.supersede = hang  # type: ignore[method-assign]
        hold("main/a", max_hold=10.0)
        (held,) = store._runtime.leases()
        held.on_revoked.append(told.set)
        try:
            eventually(lambda: tick(clock, 1) or told.is_set())
            assert store.statistics().revoked == 0
        finally:
            frozen.set()
        eventually(lambda: store.statistics().revoked)

    def test_a_report_says_who_where_and_how_late(
        self, store: Store, clock: ManualClock, hold: Hold, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[Any] = []
        store.subscribe(lambda e: seen.append(e) if isinstance(e, TurnRevoked) else None)
        hold("main/a", max_hold=10.0, turn_id="T1")
        clock._monotonic += 10.5
        store.check_leases()
        (event,) = seen
        assert (event.session, event.turn_id, event.reason) == ("main/a", "T1", "hold-limit")
        assert event.held == pytest.approx(10.5)
        assert event.late == pytest.approx(0.5)
        assert any("over.wait" in frame or "in run" in frame for frame in _functions(event.stack))
        (record,) = [r for r in caplog.records if "revoked turn T1" in r.message]
        assert "fenced=True" in record.message
        assert "session=main/a" in record.message


def _ignore(_: object) -> None:
    pass


def _functions(stack: tuple[str, ...]) -> list[str]:
    return [f"in {frame.rpartition('.')[2]}" if "run" in frame else frame for frame in stack]


def test_a_wait_that_is_over_waits_for_no_time_any_more(clock: ManualClock) -> None:
    event = threading.Event()
    waiter = threading.Thread(target=clock.wait, args=(event, 10.0))
    waiter.start()
    eventually(lambda: clock.waiting == 1)
    event.set()
    waiter.join()
    assert clock.waiting == 0
