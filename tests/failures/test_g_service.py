"""G. The service: start and end, doctor, queueing, commands, the supervisor."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest

import turnlock
from tests.cli import running
from tests.docs.pages import blocks
from tests.doctor.planting import bytes_of, claim_of, killed_holder, lock, sleeper, start_time
from tests.helpers import PATIENCE, Child, child, eventually, holder
from tests.mutants import faults
from tests.mutants.mutant import ROOT
from turnlock.backends.files.fileops import FileOps
from turnlock.doctor.checks import CHECKS
from turnlock.doctor.examination import Examination
from turnlock.doctor.examine import examination_of, examine, run_checks
from turnlock.doctor.findings import Finding
from turnlock.transcript.entries import is_terminal

from .declaring import Bite, mode
from .programs import FORKING, STOPPING, claim, stopped_itself, transcript

if TYPE_CHECKING:
    import openai

    # What a gateway needs takes longer to import than most of these tests to run.
    from tests.gateway.serving import Served
    from turnlock.models import Delta, Finished, Message

SLOW = "first_token = 60.0\nidle = 60.0\nturn = 60.0"


@contextmanager
def served_by_process(
    tmp_path: Path, more: str = "", limits: str = SLOW
) -> Iterator[tuple[Served, Child]]:
    from . import told

    with told.told(tmp_path, more, limits=limits) as served:
        yield served


def run(test: Any, patience: float = PATIENCE) -> None:
    from . import told

    told.run(test, patience)


@contextmanager
def hung_in(gateway: Served, process: Child, name: str = "a") -> Iterator[None]:
    """A turn of a gateway that is at its model for ever; its client waits until the end."""
    from tests.gateway import serving

    def ask() -> None:
        with gateway.client_sync(max_retries=0, timeout=3 * PATIENCE) as client:
            client.chat.completions.create(
                model="main",
                messages=serving.user("hang"),
                extra_headers=serving.in_session(name),
            )

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            process.expect("asked hang")
            yield
        finally:
            process.close()
            asking.exception()


HOLDS_MANY = """
    import contextlib, turnlock
    store = turnlock.open_store(sys.argv[1], durability="none")
    with contextlib.ExitStack() as stack:
        for number in range(int(sys.argv[2])):
            turn = stack.enter_context(store.turn(f"main/{number}"))
            turn.append(turnlock.user("1"))
        print("holds", flush=True)
        sys.stdin.readline()
"""


def killed_holder_of(state: Path, number: int) -> list[str]:
    """The keys of so many sessions, whose holder was killed."""
    with child(HOLDS_MANY, state, number) as process:
        process.expect("holds")
        process.kill()
    return [f"main/{one}" for one in range(number)]


@mode("G1", bites=Bite(faults.CLEANS_NOTHING, shows="dead ones are left"))
def test_g1_the_start_removes_the_locks_of_the_dead_and_keeps_the_living(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.gateway import serving

    state = tmp_path / "state"
    dead = killed_holder_of(state, 100)

    async def test(living: Child) -> None:
        async with serving.served(tmp_path) as gateway:
            locks = {path.name for path in gateway.claim().parent.glob("*.lock")}
            left = locks - {"a.jsonl.lock", "foreign.jsonl.lock"}
            assert not left, f"{len(left)} dead ones are left"
            assert len(locks) == 2
            living.tell("still mine")
            await asyncio.to_thread(living.expect, "appended")

    with sleeper() as alive, holder(state) as living:
        lock(state, claim_of(alive.pid, starttime=start_time(alive.pid)), name="foreign")
        run(test(living), 2 * PATIENCE)
    assert all(f"session={key} " in caplog.text for key in dead)


# Forks a process for each call of a start and its clean-up, which kills itself right before it.
KILLED_STARTING = """
    import fcntl, os, shutil, signal, turnlock
    from turnlock.backends.files.fileops import FileOps
    from turnlock.gateway.owning import own
    left = 0
    def deadly(function):
        def call(*given, **named):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)
        return call
    def start(state, number):
        global left
        for name in ("open", "link", "unlink", "replace", "mkdir", "rmdir", "write", "listdir"):
            setattr(os, name, deadly(getattr(os, name)))
        fcntl.flock = deadly(fcntl.flock)
        FileOps.rename = staticmethod(deadly(os.rename))
        FileOps.unlink = staticmethod(os.unlink)
        left = number
        owned = own(state)
        turnlock.open_store(state, durability="none").clean_stale()
        owned.close()
        os._exit(0)
    for number in range(1, 1000):
        state = f"{sys.argv[2]}/{number}"
        shutil.copytree(sys.argv[1], state)
        pid = fork()
        if pid == 0:
            start(state, number)
        _, status = os.waitpid(pid, 0)
        print(state, flush=True)
        if status == 0:
            break
    print("all", flush=True)
"""


def starts(state: Path) -> bool:
    """Whether a gateway can have the directory."""
    from turnlock.doctor.live import AlreadyServed
    from turnlock.gateway.owning import own

    try:
        own(str(state)).close()
    except AlreadyServed:
        return False
    return True


@mode("G2", bites=Bite(faults.RECLAIMS_BY_DIRECTORY, shows="no start any more"))
def test_g2_killed_at_any_step_of_its_start_a_gateway_stops_no_later_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    killed_holder(state)
    killed = 0
    with child(FORKING + KILLED_STARTING, state, tmp_path) as process:
        while (line := process.line()) != "all":
            killed += 1
            assert starts(Path(line)), "there is no start any more"
            store = turnlock.open_store(line, durability="none")
            store.clean_stale()
            with store.turn("main/a", wait=0) as turn:
                turn.append(turnlock.user("next"))
            assert running.story(Path(line)).count("interrupted") == 1
    assert killed > 20


@mode("G3", bites=Bite(faults.DRAINS_WITHOUT_LIMIT, shows="was told (None|cancelled)"))
def test_g3_the_drain_ends_by_itself_and_each_turn_with_its_record(tmp_path: Path) -> None:
    from tests.gateway import serving

    async def test(gateway: Served, process: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            healthy = asyncio.create_task(serving.ask(client, "hold", session="healthy"))
            await asyncio.to_thread(process.expect, "asked hold")
            hung = asyncio.create_task(serving.failure(client, "hang", session="hung"))
            await asyncio.to_thread(process.expect, "asked hang")
            process.process.send_signal(signal.SIGTERM)
            record = gateway.state / "gateway.lock"
            await serving.eventually(lambda: json.loads(record.read_text())["stage"] == "draining")
            process.tell()
            assert await healthy == "half of it, re: hold"
            code = (await hung).code
            assert code == "shutting_down", f"it was told {code}"
            assert await asyncio.to_thread(process.ended) == 0
        assert [one["reason"] for one in gateway.markers("hung")] == ["cancelled"]
        assert len(gateway.terminals("hung")) == len(gateway.terminals("healthy")) == 1
        assert gateway.markers("healthy") == []

    with served_by_process(tmp_path, limits=f"{SLOW}\ndrain = 4.0") as served:
        run(test(*served), 2 * PATIENCE)


@mode("G4", bites=Bite(faults.RESUMES, shows="asked hang"))
def test_g4_no_start_takes_up_again_what_hung(tmp_path: Path) -> None:
    from tests.gateway import serving

    with served_by_process(tmp_path) as (gateway, process), hung_in(gateway, process):
        process.kill()

    async def test(gateway: Served, process: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            assert await serving.ask(client, "hello", session="b") == "re: hello"
            await asyncio.to_thread(process.expect, "asked hello")
            assert await serving.ask(client, "go on") == "re: go on"
            await asyncio.to_thread(process.expect, "asked go on")
        assert [one["reason"] for one in gateway.markers()] == ["interrupted"]

    for _ in range(2):
        with served_by_process(tmp_path) as served:
            run(test(*served))


KILLED_BEFORE_ITS_ANSWER = """
    import os, signal
    from turnlock.gateway.exchange import Exchange
    Exchange._end = lambda self, outcome: os.kill(os.getpid(), signal.SIGKILL)
"""


@mode("G5", bites=Bite(faults.ASKED_AGAIN, shows="asked hello"))
def test_g5_an_answer_that_was_lost_in_a_crash_is_given_again_and_not_made_again(
    tmp_path: Path,
) -> None:
    import openai

    from tests.gateway import serving

    def send(client: openai.AsyncOpenAI, text: str, key: str) -> Any:
        return client.chat.completions.create(
            model="main",
            messages=serving.user(text),
            extra_headers=serving.in_session("a", **{"Idempotency-Key": key}),
        )

    async def lose(gateway: Served, process: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            with pytest.raises(openai.APIConnectionError):
                await send(client, "hello", "k1")
        await asyncio.to_thread(process.expect, "asked hello")

    async def send_again(gateway: Served, process: Child) -> None:
        async with gateway.client(max_retries=0) as client:
            again = await send(client, "hello", "k1")
            assert again.choices[0].message.content == "re: hello"
            await send(client, "next", "k2")
            await asyncio.to_thread(process.expect, "asked next")
        assert [text for _, text in gateway.said()] == ["hello", "re: hello", "next", "re: next"]

    with served_by_process(tmp_path, KILLED_BEFORE_ITS_ANSWER) as served:
        run(lose(*served))
    with served_by_process(tmp_path) as served:
        run(send_again(*served))


@mode("G6", bites=Bite(faults.UNMARKED, shows="still running"))
def test_g6_after_a_start_no_record_says_that_a_turn_runs(tmp_path: Path) -> None:
    from tests.gateway import serving

    keys = killed_holder_of(tmp_path / "state", 10)

    async def test() -> None:
        async with serving.served(tmp_path) as gateway:
            store = turnlock.open_store(gateway.state)
            ended = [key for key in keys if sum(map(is_terminal, store.read(key))) == 1]
            assert ended == keys, f"{len(keys) - len(ended)} are still running"
            assert store.locks() == []

    run(test())


@mode("G7", bites=Bite(faults.FAIL_OPEN, shows="75"))
def test_g7_a_command_leaves_alone_what_the_gateway_works_on(tmp_path: Path) -> None:
    with served_by_process(tmp_path) as (gateway, process), hung_in(gateway, process):
        ran = tmp_path / "ran"
        turn_id = json.loads(gateway.claim().read_text())["turnId"]
        before = transcript(gateway.state).read_bytes()
        for command in (
            ["exec", "main/a", "--wait", "0.2", "--", "touch", str(ran)],
            ["append", "main/a", "--wait", "0.2"],
        ):
            done = running.run(gateway.state, *command, stdin=running.a_message("x"))
            assert done.code == 75, done
            assert f"turn {turn_id!r} of process {process.pid}" in done.err
            assert "turnlock release main/a" in done.err
        assert not ran.exists()
        assert transcript(gateway.state).read_bytes() == before


@mode("G8", bites=Bite(faults.OWNER_UNKNOWN, shows="SessionBusy"))
def test_g8_a_turn_that_wants_its_own_session_is_told_so_at_once(state: Path) -> None:
    store = turnlock.open_store(state)
    with (
        store.turn("main/a"),
        store.turn("main/b"),
        pytest.raises(turnlock.AlreadyHeld),
        store.turn("main/a", wait=1),
    ):
        pass

    async def test() -> None:
        async with store.turn("main/a"), store.turn("main/b"):
            with pytest.raises(turnlock.AlreadyHeld):
                await store.turn("main/a", wait=1).__aenter__()

    run(test())


@mode("G8", bites=Bite(faults.WAITS_FOR_EVER, shows="did not come to an end"))
def test_g8_of_agents_that_call_each_other_none_waits_for_ever(tmp_path: Path) -> None:
    from tests.gateway import serving

    async def test() -> None:
        async def calling(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
            text = serving.last_text(messages)
            answer = text
            if text == "call b":
                answer = await serving.ask(client, "hello", session="b")
            elif text == "call a":
                answer = str((await serving.failure(client, "hello", session="a")).code)
            async for item in serving.echo([{"role": "user", "content": answer}]):
                yield item

        async with (
            serving.served(
                tmp_path, serving.Scripted(calling), limits=f"{SLOW}\nwait = 0.3\ndrain = 0.5"
            ) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            assert await serving.ask(client, "call b") == "re: re: hello"
            assert await serving.ask(client, "call a") == "re: conversation_locked"
            assert gateway.markers() == gateway.markers("b") == []

    run(test())


BUSY = {
    "refused": ("wait = 0", "", {"answered": 1, "conversation_locked": 99}),
    "queued": ("wait = 60.0", "max_waiting = 10", {"answered": 11, "queue_full": 89}),
}


@pytest.mark.parametrize("how", BUSY)
@mode(
    "G9",
    bites=(
        Bite(faults.BUSY_IS_UPSTREAM, shows="upstream_error"),
        Bite(faults.TWO_GET_IN, shows="'answered'"),
    ),
)
def test_g9_of_a_hundred_messages_at_once_each_is_answered_or_told_why_not(
    tmp_path: Path, how: str
) -> None:
    import openai

    from tests.gateway import serving

    limits, settings, wanted = BUSY[how]

    async def test() -> None:
        opened = asyncio.Event()

        async def gated(messages: Sequence[Message]) -> AsyncGenerator[Delta | Finished, None]:
            await opened.wait()
            async for item in serving.echo(messages):
                yield item

        model = serving.Scripted(gated)
        outcomes: Counter[str] = Counter()

        async def send(client: openai.AsyncOpenAI, number: int) -> None:
            try:
                await serving.ask(client, str(number))
                outcomes["answered"] += 1
            except openai.APIError as error:
                outcomes[str(error.code)] += 1

        async with (
            serving.served(
                tmp_path, model, limits=f"{SLOW}\n{limits}", gateway=settings
            ) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            sent = [asyncio.create_task(send(client, 0))]
            await serving.eventually(lambda: model.calls)
            sent += [asyncio.create_task(send(client, number)) for number in range(1, 100)]
            refused = sum(wanted.values()) - wanted["answered"]
            await serving.eventually(lambda: sum(outcomes.values()) >= refused)
            opened.set()
            await asyncio.gather(*sent)
        assert outcomes == wanted
        said = gateway.said()
        asked = [text for role, text in said if role == "user"]
        assert len(set(asked)) == len(asked) == wanted["answered"]
        # Each message with its reply behind it: none was mixed in, none dropped.
        assert said == [
            one for text in asked for one in (("user", text), ("assistant", f"re: {text}"))
        ]

    run(test(), 2 * PATIENCE)


def end_input(process: Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


@mode("G10", bites=Bite(faults.BUSY_IS_FAILURE, shows="75"))
def test_g10_of_commands_at_once_each_ends_with_a_code_that_says_how(state: Path) -> None:
    def append(wait: float) -> running.Done:
        message = running.a_message(f"waited {wait}")
        return running.run(state, "append", "main/a", "--json", "--wait", str(wait), stdin=message)

    command = ["exec", "main/a", "--", "sh", "-c", "echo up; cat"]
    with ThreadPoolExecutor(3) as pool, running.running(state, *command) as first:
        assert running.line_of(first) == "up"
        patient = pool.submit(append, 600.0)
        for done in pool.map(append, (0.2, 0.3)):
            assert done.code == 75, done
            told = done.object["error"]
            assert (told["type"], told["holder_pid"]) == ("SessionBusy", first.pid)
        end_input(first)
        assert first.wait(PATIENCE) == 0
        assert patient.result().code == 0
    limited = running.run(state, "exec", "main/a", "--max-hold", "0.3", "--", "sleep", "60")
    assert limited.code == 124
    assert running.story(state)[1] == "waited 600.0"


# A lease that leaked: its process lives, and nobody in there watches it.
LEAKED = """
    import turnlock
    from turnlock.turns.watchdog import Watchdog
    Watchdog.start = lambda self: None
    with turnlock.open_store(sys.argv[1]).turn("main/a", max_hold=0.2, turn_id="T1") as turn:
        turn.append(turnlock.user("1"))
        print("leaked", flush=True)
        sys.stdin.readline()
"""


@mode("G11", bites=Bite(faults.HEALTHY_IF_ALIVE, shows="did not come to that"))
def test_g11_a_lock_that_leaked_in_a_live_process_is_found_with_what_to_do(state: Path) -> None:
    def over_limit() -> Finding | None:
        findings = examine(str(state)).findings
        return next((found for found in findings if found.check == "over-limit"), None)

    with child(LEAKED, state) as process:
        process.expect("leaked")
        found = eventually(over_limit)
        assert f"by turn T1 of process {process.pid}, which is alive" in found.message
        remedy = shlex.split(found.hint)
        assert remedy[:3] == ["turnlock", "release", "main/a"]
        assert running.run(state, *remedy[1:], "--yes").code == 0
        with turnlock.open_store(state).turn("main/a", wait=0):
            pass


@mode("G11", bites=Bite(faults.NOT_ASKED, shows="what it is at"))
def test_g11_of_a_turn_that_hangs_in_a_gateway_doctor_says_what_the_gateway_knows(
    tmp_path: Path,
) -> None:
    with served_by_process(tmp_path) as (gateway, process), hung_in(gateway, process):
        (seen,) = running.run(gateway.state, "doctor", "--json").object["locks"]
        assert seen["turn_id"] == json.loads(gateway.claim().read_text())["turnId"]
        assert (seen["pid"], seen["pid_status"]) == (process.pid, "alive")
        assert seen.get("phase") == "model", "it does not say what it is at"
        assert 0 <= seen["progress_age_seconds"] <= seen["age_seconds"] + 1


WORKING = """
    import select, turnlock
    store = turnlock.open_store(sys.argv[1], durability="none")
    print("works", flush=True)
    number = lost = 0
    while not select.select([sys.stdin], [], [], 0)[0] or number < 50:
        number += 1
        try:
            with store.turn(f"main/{sys.argv[2]}") as turn:
                turn.append(turnlock.user("1"))
                turn.append(turnlock.user("2"))
        except turnlock.TurnlockError:
            lost += 1
    print(number, lost, flush=True)
"""


@mode("G12", bites=Bite(faults.REMOVES_THE_LIVING, shows="turns were lost"))
def test_g12_a_hundred_fixes_under_load_cost_no_turn(state: Path) -> None:
    state.mkdir()
    with child(WORKING, state, "a") as first, child(WORKING, state, "b") as second:
        for process in (first, second):
            process.expect("works")
        for _ in range(100):
            examine(str(state), fix=True)
        for process in (first, second):
            process.tell()
        said = [list(map(int, process.line().split())) for process in (first, second)]
    assert [lost for _, lost in said] == [0, 0], "turns were lost"
    store = turnlock.open_store(state)
    for key, (number, _) in zip(("main/a", "main/b"), said, strict=True):
        assert sum("message" in entry for entry in store.read(key)) == 2 * number


def broken(examination: Examination) -> Iterator[Finding]:
    raise turnlock.StoreError(examination.root, "check", "it is broken")


@mode("G13", bites=Bite(faults.ENDS_AT_A_CRASH, shows="it is broken"))
def test_g13_whichever_check_breaks_the_others_look_all_the_same(state: Path) -> None:
    killed_holder(state)
    lock(state, b"[", name="b")
    transcript(state, "torn").write_bytes(b'{"type":"session","version":3,"id":"x"}\n{"type":')
    transcript(state, "torn").chmod(0o644)
    root = str(state)
    for place, name in enumerate(name for name, _ in CHECKS):
        others = [one for one in CHECKS if one[0] != name]
        wanted = run_checks(examination_of(root, fix=False, deep=False), others)
        checks = [*CHECKS[:place], (name, broken), *CHECKS[place + 1 :]]
        report = run_checks(examination_of(root, fix=False, deep=False), checks)
        crashed = [found for found in report.findings if found.check == "check-crashed"]
        assert [name in found.message for found in crashed] == [True]
        rest = [found.check for found in report.findings if found not in crashed]
        assert rest == [found.check for found in wanted.findings]
        assert not report.is_sound
        assert rest


class Unremovable(FileOps):
    """Nothing can be put in the place of anything."""

    def __init__(self) -> None:
        self.rename = self._refuse  # type: ignore[assignment]

    def _refuse(self, source: str, path: str) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)


@mode("G13", bites=Bite(faults.ANNOUNCED, shows="it says that it was"))
def test_g13_a_repair_that_could_not_be_made_is_not_reported_as_made(state: Path) -> None:
    killed_holder(state)
    examination = Examination(str(state), fix=True, files=Unremovable())
    report = run_checks(examination, CHECKS)
    (found,) = [one for one in report.findings if one.check == "stale-lock"]
    assert claim(state).exists()
    assert not found.fixed, "it says that it was"
    assert "ermission denied" in found.message
    assert not report.is_sound


@mode("G14", bites=Bite(faults.CLEANS_BEFORE_IT_OWNS, shows="it changed something"))
def test_g14_beside_a_gateway_a_second_start_and_doctor_change_nothing(tmp_path: Path) -> None:
    with served_by_process(tmp_path) as (gateway, process), hung_in(gateway, process, "hung"):
        state = gateway.state
        killed_holder(state)
        before = bytes_of(state)
        second = running.run(state, "gateway", "--port", "0")
        assert bytes_of(state) == before, "it changed something"
        assert second.code == 75
        assert f"process {process.pid} at {gateway.url}, answers" in second.err
        assert running.run(state, "doctor").code == 1
        assert bytes_of(state) == before


@contextmanager
def releasing(state: Path) -> Iterator[Popen[bytes]]:
    """A release that has come to its end, whichever."""
    with running.running(state, "release", "main/a", "--yes") as process:
        eventually(lambda: process.poll() is not None)
        yield process


@mode("G15", bites=Bite(faults.RELEASE_QUEUES, shows="did not come to that"))
def test_g15_a_release_waits_for_no_lock(state: Path) -> None:
    with holder(state), releasing(state) as process:
        assert process.returncode == 0
        with turnlock.open_store(state).turn("main/a", wait=0):
            pass


INSIDE_THE_GUARD = """
    with store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("1"))
        files.stop_at("write")
        turn.append(turnlock.user("2"))
    print("released", flush=True)
"""


@mode("G15", bites=Bite(faults.GUARD_FOR_EVER, shows="did not come to that"))
def test_g15_a_release_that_cannot_be_made_says_why_and_what_to_do(state: Path) -> None:
    with child(STOPPING + INSIDE_THE_GUARD, state) as stopped:
        stopped_itself(stopped)
        with releasing(state) as process:
            assert process.returncode == 1
            assert f"kill -CONT {stopped.pid}, or kill -KILL {stopped.pid}" in running.errors_of(
                process
            )
        stopped.go_on()
        stopped.expect("released")


EXAMINING = """
    import os, signal
    from turnlock.doctor.checks import CHECKS
    from turnlock.doctor.examine import examination_of, run_checks
    examination = examination_of(sys.argv[1], fix=True, deep=True)
    def stop(count):
        examination.on_read = lambda count: None
        os.kill(os.getpid(), signal.SIGSTOP)
    examination.on_read = stop
    print(run_checks(examination, CHECKS).is_sound, flush=True)
"""


@mode("G16", bites=Bite(faults.SCANS_UNDER_THE_GUARD, shows="GuardTimeout"))
def test_g16_maintenance_that_takes_for_ever_keeps_nobody_from_writing(state: Path) -> None:
    store = turnlock.open_store(state, durability="none")
    keys = [f"main/{number}" for number in range(20)]
    for key in keys:
        with store.turn(key) as turn:
            turn.append(*[turnlock.user("x" * 10_000)] * 10)
    with child(EXAMINING, state) as doctor:
        # In the middle of the first transcript.
        stopped_itself(doctor)
        for key in keys:
            with store.turn(key, wait=0) as turn:
                turn.append(turnlock.user("in between"))
        doctor.go_on()
        doctor.expect("True")


@mode("G17", bites=Bite(faults.MODE_UNASKED, shows="is not found"))
def test_g17_a_unit_that_ends_the_children_first_is_found_with_its_remedy(
    state: Path, tmp_path: Path
) -> None:
    (documented,) = blocks("ini", ROOT / "docs/howto/run-as-a-service.md")
    unit = tmp_path / "turnlock.service"
    state.mkdir()

    def look(text: str) -> running.Done:
        unit.write_text(text)
        return running.run(state, "doctor", "--json", "--unit", str(unit))

    assert look(documented.text).code == 0
    # What systemd does with a unit that does not say.
    done = look(documented.text.replace("KillMode=mixed\n", ""))
    hints = {found["check"]: found["hint"] for found in done.object["findings"]}
    assert "unit-kill-mode" in hints, "it is not found"
    assert "set KillMode=mixed" in hints["unit-kill-mode"]
    assert done.code == 1
