"""B. Ownership leaked on abort, teardown and maintenance."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.cli import running
from tests.helpers import PATIENCE, child, eventually, holder
from tests.mutants import faults
from turnlock.backends.files.line import count_in_line
from turnlock.store import Store
from turnlock.turns.queue import queues

from .declaring import Bite, mode
from .programs import FORKING, KILLING, TAKE, claim, transcript


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(bounded())


async def deaf(until: asyncio.Event) -> None:
    """Work that ignores every cancellation."""
    while not until.is_set():
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue


@mode("B1", bites=Bite(faults.NO_HAND_OVER, shows="SessionBusy"))
def test_b1_work_that_ignores_its_abort_does_not_keep_the_session(state: Path) -> None:
    store = turnlock.open_store(state)

    async def test() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        async def hung() -> None:
            async with store.turn("main/a", turn_id="T1") as turn:
                await turn.append(turnlock.user("1"))
                begun.set()
                await deaf(over)
                with pytest.raises(turnlock.LeaseRevoked):
                    await turn.append(turnlock.user("too late"))

        task = asyncio.create_task(hung())
        await begun.wait()
        await asyncio.to_thread(store.revoke, "main/a")
        try:
            async with store.turn("main/a", wait=1) as turn:
                await turn.append(turnlock.user("2"))
            assert not task.done()
            assert [zombie.turn_id for zombie in store.zombies()] == ["T1"]
        finally:
            over.set()
        with pytest.raises(turnlock.LeaseRevoked):
            await task

    run(test)


@mode("B2", bites=Bite(faults.TORN_DOWN_WRITES, shows="DID NOT RAISE"))
def test_b2_what_settles_after_the_teardown_takes_and_writes_nothing(state: Path) -> None:
    store = turnlock.open_store(state)

    async def test() -> None:
        begun, answer = asyncio.Event(), asyncio.Event()

        async def late() -> None:
            await answer.wait()
            await turn.append(turnlock.assistant("a late answer"))

        with pytest.raises(turnlock.LeaseRevoked):
            async with store.turn("main/a") as turn:
                await turn.append(turnlock.user("1"))
                task = asyncio.create_task(late())
                begun.set()
                await asyncio.to_thread(store.revoke, "main/a")
                await asyncio.Event().wait()
        before = transcript(state).read_bytes()
        answer.set()
        with pytest.raises(turnlock.LeaseRevoked):
            await task
        assert not claim(state).exists()
        assert transcript(state).read_bytes() == before

    run(test)


MAINTAIN = """
    import threading, turnlock
    store = turnlock.open_store(sys.argv[1])
    tries = int(sys.argv[2])
    def compact(turn):
        global tries
        tries -= 1
        if tries >= 0:
            raise OSError("try again")
        threading.Event().wait()
    with store.turn("main/a", max_hold=0.5, turn_id="maintenance") as turn:
        turn.append(turnlock.user("compacting"))
        print("maintains", flush=True)
        while True:
            try:
                turn.watch(lambda: compact(turn), first=30)
            except OSError:
                pass
"""


@mode("B3", bites=Bite(faults.NO_WATCHDOG, shows="SessionBusy"))
def test_b3_maintenance_that_blocks_is_cut_off_and_the_turn_goes_in(state: Path) -> None:
    maintain(state, tries=0)


@mode("B4", bites=Bite(faults.NO_WATCHDOG, shows="SessionBusy"))
def test_b4_a_second_try_that_hangs_is_within_the_same_limit(state: Path) -> None:
    maintain(state, tries=1)


def maintain(state: Path, tries: int) -> None:
    """Its own watchdog ends it: the grace of a waiter would come later than this waits."""
    with child(MAINTAIN, state, tries) as process:
        process.expect("maintains")
        with turnlock.open_store(state).turn("main/a", wait=2.2) as turn:
            turn.append(turnlock.user("a turn"))
        assert process.process.poll() is None, "it hangs still"
    assert running.story(state)[2] == "hold-limit"


@mode("B5", bites=Bite(faults.CHECKING_IS_PROGRESS, shows="SessionBusy|did not come to that"))
def test_b5_a_turn_that_only_says_that_it_is_there_makes_no_progress(state: Path) -> None:
    store = turnlock.open_store(state)

    async def test() -> None:
        begun = asyncio.Event()

        async def stalled() -> None:
            async with store.turn("main/a", max_stall=0.5, turn_id="T1") as turn:
                await turn.append(turnlock.user("1"))
                begun.set()
                while True:  # between the model's reply and the tool's start
                    await turn.check()
                    await asyncio.sleep(0.01)

        task = asyncio.create_task(stalled())
        await begun.wait()
        with pytest.raises(turnlock.SessionBusy, match="turn 'T1' of process") as caught:
            await store.turn("main/a", wait=0).__aenter__()
        async with store.turn("main/a", wait=PATIENCE / 2) as turn:
            await turn.append(turnlock.user("2"))
        assert caught.value.holder_turn == "T1"
        with pytest.raises(turnlock.LeaseRevoked) as revoked:
            await task
        assert revoked.value.reason == "stall-limit"

    run(test)


class Cancelling:
    """Runs a coroutine, and cancels its task at its n-th await; ``reached`` says whether it did."""

    def __init__(self, work: Coroutine[Any, Any, None], number: int) -> None:
        self._work = work
        self._number = number
        self.reached = False

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        task = asyncio.current_task()
        assert task is not None
        resume: Callable[[], Any] = partial(next, steps)
        for count in itertools.count(1):
            try:
                step = resume()
            except StopIteration:
                return
            if count == self._number:
                self.reached = True
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield step
                resume = partial(next, steps)
            except asyncio.CancelledError as error:
                resume = partial(steps.throw, error)


@mode("B6", bites=Bite(faults.CANCELLED_UNRELEASED, shows="SessionBusy"))
def test_b6_after_a_cancellation_at_any_await_the_next_message_gets_in(state: Path) -> None:
    store = turnlock.open_store(state)

    async def turn() -> None:
        async with store.turn("main/a") as turn:
            await turn.append(turnlock.user("1"))
            await turn.watch(asyncio.sleep(0), first=5)
            await turn.append(turnlock.assistant("2"))

    async def test() -> None:
        for number in range(1, 100):
            cancelling = Cancelling(turn(), number)

            async def stop(cancelling: Cancelling = cancelling) -> None:
                await cancelling

            task = asyncio.create_task(stop())
            await asyncio.wait([task])
            async with store.turn("main/a", wait=2) as probe:
                await probe.append(turnlock.user("probe"))
            if not cancelling.reached:
                break
        assert number > 4

    run(test)
    assert store.statistics().held == 0


@mode("B7", bites=Bite(faults.ONE_SLOT, shows="its lock is still there"))
def test_b7_a_waiter_that_gives_up_leaves_the_holders_release_alone(state: Path) -> None:
    path = transcript(state)
    path.parent.mkdir(parents=True)
    shared = turnlock.SessionLock(path, wait=0)

    def give_up() -> None:
        with pytest.raises(turnlock.SessionBusy), shared:
            pass

    try:
        with shared:
            waiter = threading.Thread(target=give_up)
            waiter.start()
            waiter.join()
    finally:
        assert not claim(state).exists(), "its lock is still there"
    with child(TAKE, state, 0) as taker:
        taker.expect("taken")


@mode("B8", bites=Bite(faults.FAIL_OPEN, shows="taken|!= 75|== 75|appended"))
def test_b8_a_waiter_whose_wait_is_over_writes_nothing(state: Path) -> None:
    with holder(state) as process:
        before = transcript(state).read_bytes()
        with child(TAKE, state, 0.2) as waiter:
            waiter.expect("SessionBusy")
        done = running.run(state, "append", "main/a", "--wait", "0.2", stdin=running.a_message("x"))
        assert done.code == 75, done
        assert transcript(state).read_bytes() == before
        process.tell("still mine")
        process.expect("appended")


# Forks a process for each file call of a turn, which kills itself right before that call.
KILLED_ANYWHERE = """
    def story(state, number):
        files = Killing()
        files.left = number
        store = Store(FilesBackend(StateDirectory(state), files=files), location=state)
        with store.turn("main/a", wait=0, turn_id="killed") as turn:
            for text in "12":
                print("acknowledged", *turn.append(turnlock.user(text)), flush=True)
    turnlock.open_store(sys.argv[1])
    for number in range(1, 1000):
        pid = fork()
        if pid == 0:
            story(f"{sys.argv[1]}/{number}", number)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print("over", number, flush=True)
        if status == 0:
            break
    print("all", flush=True)
"""


@mode("B9", bites=Bite(faults.DEAD_IS_HELD, shows="SessionBusy"))
def test_b9_killed_at_any_step_a_turn_leaves_a_session_that_goes_on(state: Path) -> None:
    acknowledged: list[str] = []
    killed = 0
    with child(FORKING + KILLING + KILLED_ANYWHERE, state) as process:
        while (line := process.line()) != "all":
            word, *rest = line.split()
            if word == "acknowledged":
                acknowledged += rest
                continue
            killed += 1
            goes_on(state / rest[0], acknowledged)
            acknowledged = []
    assert killed > 20


def goes_on(state: Path, acknowledged: list[str]) -> None:
    """What the next start finds is cleaned up; the next message gets in; nothing is lost."""
    store = turnlock.open_store(state)
    store.clean_stale()
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("next"))
    found = [entry["id"] for entry in store.read("main/a")]
    assert set(acknowledged) <= set(found)
    story = running.story(state)
    ends = [kind for kind in story if kind in ("turnlock:end", "interrupted")]
    assert len(ends) == story.count("turnlock:turn"), story


@mode("B10", bites=Bite(faults.NEVER_FORGOTTEN, shows="held"))
def test_b10_a_thousand_sessions_of_one_process_leave_no_lease(state: Path) -> None:
    store = turnlock.open_store(state, durability="none")
    for number in range(1000):
        with store.turn(f"main/{number}") as turn:
            turn.append(turnlock.user("1"))
    assert store.statistics().held == 0, "held"
    assert store.locks() == []
    assert not queues._queues


@mode("B10", bites=Bite(faults.NO_WATCHDOG, shows="did not come to that"))
def test_b10_a_session_whose_turn_was_lost_in_a_live_process_is_freed(state: Path) -> None:
    store = turnlock.open_store(state)

    def vanish() -> None:
        store.turn("main/a", max_hold=0.3).__enter__().append(turnlock.user("1"))

    thread = threading.Thread(target=vanish)
    thread.start()
    thread.join()
    eventually(lambda: not claim(state).exists())
    with store.turn("main/a", wait=PATIENCE) as turn:
        turn.append(turnlock.user("2"))
    assert running.story(state)[2] == "hold-limit"


@mode("B11", bites=Bite(faults.NO_WATCHDOG, shows="did not come to that"))
def test_b11_a_try_lock_whose_holder_hangs_can_be_had_again() -> None:
    store = turnlock.open_store("memory:")
    begun, over = threading.Event(), threading.Event()

    def hang() -> None:
        try:
            with store.turn("main/a", wait=0, max_hold=0.5):
                begun.set()
                over.wait(3 * PATIENCE)
        except turnlock.LeaseRevoked:
            pass

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    assert not tried(store), "while it is held, it is busy"
    eventually(lambda: tried(store))
    over.set()
    thread.join()


def tried(store: Store) -> bool:
    """Try once to do a turn."""
    try:
        with store.turn("main/a", wait=0):
            return True
    except turnlock.SessionBusy:
        return False


@mode("B12", bites=Bite(faults.DEAD_IS_HELD, shows="no line came"))
def test_b12_who_waits_for_a_holder_that_dies_does_not_wait_for_its_term(state: Path) -> None:
    with holder(state, max_hold=300) as process, child(TAKE, state, 200) as waiter:
        eventually(lambda: waiting_in_line(state) == 1)
        process.kill()
        waiter.expect("taken")


def waiting_in_line(state: Path) -> int:
    path = str(transcript(state))
    return count_in_line([path]).get(path, 0)
