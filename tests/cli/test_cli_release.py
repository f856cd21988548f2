"""``turnlock release``: never unasked, never the wrong holder, and the history stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import (
    PROGRAM,
    Done,
    a_message,
    a_turn,
    environment,
    marker,
    run,
    running,
    story,
    tell,
    transcript,
)
from tests.doctor.disks import slow_disk
from tests.helpers import Child, eventually, holder, process_state
from turnlock.backends.files.fileops import FileOps
from turnlock.cli import release
from turnlock.clock import SystemClock

pytestmark = pytest.mark.processes


def test_without_a_terminal_it_refuses_and_names_the_command(state: Path) -> None:
    with holder(state, "T1") as process:
        done = run(Path("elsewhere"), "release", "main/a", "--state-dir", str(state))
        assert done.code == 2
        shown = done.out.splitlines()
        assert shown[0] == "session main/a is held"
        assert shown[1].split() == ["holder", "process", str(process.pid), "(-c,", "alive)"]
        assert shown[2].split() == ["turn", "T1"]
        assert "within its limit of 5 min 0 s" in shown[3]
        assert f"turnlock release main/a --yes --state-dir {state}" in done.err
        process.tell("still mine")
        process.expect("appended")


def test_it_shows_how_many_wait(state: Path) -> None:
    with holder(state, "T1"):
        assert "  waiting  nobody\n" in run(state, "release", "main/a").out
        with (
            running(state, "append", "main/a") as first,
            running(state, "append", "main/a") as last,
        ):
            for process in (first, last):
                tell(process, a_message("hello"))
            eventually(lambda: "  waiting  2\n" in run(state, "release", "main/a").out)


def test_json_never_asks(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1"):
        done = run_here("release", "main/a", "--json")
    assert done.code == 2
    assert "--yes" in done.object["error"]["hint"]


def test_yes_takes_the_session_keeps_the_history_and_tells_the_fate(state: Path) -> None:
    with holder(state, "T1") as process:
        before = transcript(state).read_bytes()
        done = run(state, "release", "main/a", "--yes")
        assert done.code == 0
        assert "its holder is fenced" in done.out
        assert f"process {process.pid} still runs" in done.out
        assert "its error marker was written; the history is kept" in done.out
        process.tell("too late")
        process.expect("revoked operator")
    assert transcript(state).read_bytes().startswith(before)
    assert story(state) == ["turnlock:turn", "from T1", "operator"]
    assert marker(state)["turnId"] == "T1"


def test_a_released_session_is_free_a_second_time(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1"):
        run_here("release", "main/a", "--yes")
        before = transcript(state).read_bytes()
        done = run_here("release", "main/a", "--yes", "--json")
    assert done.code == 0
    assert done.object == {
        "session": "main/a",
        "released": False,
        "holder": None,
        "fenced": None,
        "process": None,
        "marker": None,
    }
    assert transcript(state).read_bytes() == before


def test_json_has_the_holder_and_its_fate(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1") as process:
        done = run_here("release", "main/a", "--yes", "--json").object
    assert (done["released"], done["fenced"], done["process"]) == (True, True, "alive")
    assert done["marker"] == "written"
    assert (done["holder"]["pid"], done["holder"]["turn_id"]) == (process.pid, "T1")


def test_a_holder_that_was_killed_was_gone_already(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1") as process:
        process.kill()
        done = run_here("release", "main/a", "--yes")
    assert done.code == 0
    assert f"its holder, process {process.pid}, was gone already" in done.out
    assert marker(state)["reason"] == "interrupted"


def released_on(needs: float, run_here: RunHere, monkeypatch: pytest.MonkeyPatch) -> Done:
    """On a disk that needs so many seconds."""
    with slow_disk(needs=needs) as (disk, clock):
        monkeypatch.setattr(FileOps, "fdatasync", lambda _, handle: disk.fdatasync(handle))
        monkeypatch.setattr(SystemClock, "wait", lambda _, *waited: clock.wait(*waited))
        return run_here("release", "main/a", "--yes", "--json")


def test_a_marker_is_waited_for_on_a_slow_disk(
    state: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(state, "T1"):
        done = released_on(20.0, run_here, monkeypatch)
    assert (done.code, done.object["marker"]) == (0, "written")
    assert marker(state)["turnId"] == "T1"


def test_a_marker_that_a_disk_does_not_take_is_owed(
    state: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it hangs or is full: that none was owed is said of a turn that was at its end."""
    with holder(state, "T1"):
        done = released_on(1000.0, run_here, monkeypatch)
    assert (done.code, done.object["released"], done.object["marker"]) == (0, True, "owed")


def test_a_session_that_is_not_there_is_a_mistake(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    done = run_here("release", "main/b", "--yes", "--json")
    assert done.code == 2
    assert done.object["error"]["type"] == "NoSuchSession"


@contextmanager
def openclaw_holder(state: Path, **more: int) -> Iterator[subprocess.Popen[bytes]]:
    """A live process that another program's lock names, with its true start time."""
    a_turn(state)
    with subprocess.Popen(["sleep", "60"]) as process:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        started = int(stat.rpartition(")")[2].split()[19])
        created = "2026-01-01T00:00:00.000Z"
        claim = {"pid": process.pid, "createdAt": created, "starttime": started, **more}
        Path(f"{transcript(state)}.lock").write_text(json.dumps(claim))
        try:
            yield process
        finally:
            process.kill()


def test_a_foreign_holder_past_its_limit_cannot_be_fenced_and_it_says_so(
    state: Path, run_here: RunHere
) -> None:
    with openclaw_holder(state, maxHoldMs=300_000) as process:
        done = run_here("release", "main/a", "--yes")
        assert done.code == 0
        assert f"process {process.pid} is no holder of Turnlock's and cannot be fenced" in done.out
        assert process.poll() is None
    assert turnlock.open_store(state).locks() == []


def test_a_foreign_holder_within_its_limit_keeps_the_session(
    state: Path, run_here: RunHere
) -> None:
    with openclaw_holder(state, maxHoldMs=10**12):
        done = run_here("release", "main/a", "--yes", "--json")
        assert done.code == 1
        error = done.object["error"]
        assert (error["type"], error["assumed"]) == ("HolderWithinLimit", False)
        assert len(turnlock.open_store(state).locks()) == 1


def test_what_is_no_lock_is_not_released(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    os.mkfifo(f"{transcript(state)}.lock")
    done = run_here("release", "main/a", "--yes", "--json")
    assert done.code == 1
    assert done.object["error"]["type"] == "LockPathError"


def test_a_lock_that_may_be_half_written_is_one_to_ask_for_again(
    state: Path, run_here: RunHere
) -> None:
    a_turn(state)
    lock = Path(f"{transcript(state)}.lock")
    lock.write_text('{"pid": ')
    done = run_here("release", "main/a", "--yes")
    assert (done.code, lock.exists()) == (1, True)
    assert "its maker may still be writing it; ask again when it is 30 s old" in done.err
    os.utime(lock, (0, 0))
    assert run_here("release", "main/a", "--yes").code == 0


@contextmanager
def asked(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal, once it has asked; what is written to the second is typed."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "release", "main/a"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(state, TERM="dumb"),
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 4096)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
def test_on_a_terminal_it_asks(state: Path, answer: bytes, code: int, left: int) -> None:
    with holder(state, "T1"), asked(state) as (process, terminal):
        os.write(terminal, answer)
        assert process.wait(10) == code
        assert len(turnlock.open_store(state).locks()) == left


def test_ctrl_c_at_the_question_releases_nothing(state: Path) -> None:
    with holder(state, "T1"), asked(state) as (process, _):
        # It has asked, and is about to wait: only from there does a signal end it at once.
        eventually(lambda: process_state(process.pid) == "S")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert len(turnlock.open_store(state).locks()) == 1


def test_a_yes_is_for_the_holder_that_was_shown(state: Path) -> None:
    with holder(state, "T1") as first, asked(state) as (process, terminal):
        first.kill()
        with holder(state, "T2") as second:
            os.write(terminal, b"y\n")
            assert process.wait(10) == 1
            still_holds(second)


def test_so_is_a_yes_that_is_given_beforehand(
    state: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the gateway was asked who holds it, another turn took the session."""
    with holder(state, "T1") as first, ExitStack() as later:

        def asked_meanwhile(_: str) -> None:
            first.kill()
            holders.append(later.enter_context(holder(state, "T2")))

        holders: list[Child] = []
        monkeypatch.setattr(release, "gateway_of", asked_meanwhile)
        done = run_here("release", "main/a", "--yes", "--json")
        assert (done.code, done.object["error"]["type"]) == (1, "NotReleased")
        assert "turn T2" in done.object["error"]["message"]
        still_holds(holders[0])


def test_a_session_that_became_free_meanwhile_is_free(
    state: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_meanwhile(root: str) -> None:
        turnlock.open_store(root).clean_stale()

    with holder(state, "T1") as process:
        process.kill()
        monkeypatch.setattr(release, "gateway_of", asked_meanwhile)
        done = run_here("release", "main/a", "--yes", "--json")
    assert (done.code, done.object["released"], done.object["holder"]) == (0, False, None)


def still_holds(process: Child) -> None:
    process.tell("mine")
    process.expect("appended")


def of_a_container_before_the_reboot(state: Path) -> Path:
    """The claim of a turn that died with its host, as the next container finds it."""
    with holder(state, "T1") as process:
        process.tell("said")
        process.expect("appended")
        process.kill()
    lock = Path(f"{transcript(state)}.lock")
    claim = json.loads(lock.read_text())
    lock.write_text(json.dumps(claim | {"host": "pod-1", "bootId": "the one before"}))
    return lock


def test_a_claim_of_a_host_that_is_gone_is_taken_on_an_operators_word(
    state: Path, run_here: RunHere
) -> None:
    """By nobody else: a busy turn and doctor say what to run; the question says what it risks."""
    lock = of_a_container_before_the_reboot(state)
    store = turnlock.open_store(state)
    with pytest.raises(turnlock.SessionBusy) as caught, store.turn("main/a", wait=0):
        pass
    assert caught.value.doubt == "other-host"
    assert caught.value.hint.endswith("is gone: turnlock release main/a")
    assert [one.removed for one in store.clean_stale()] == [False]
    with pytest.raises(turnlock.LockPathError):
        store.revoke("main/a")
    (found,) = run_here("doctor", "--fix", "--json").object["findings"]
    assert (found["check"], found["fixed"]) == ("unknown-holder", False)
    assert "turnlock release main/a" in found["hint"]
    asked = run_here("release", "main/a")
    assert (asked.code, lock.exists()) == (2, True)
    assert "its host cannot be asked whether it lives" in asked.out
    done = run_here("release", "main/a", "--yes")
    assert (done.code, lock.exists()) == (0, False)
    assert done.out.count("may live, and write on beside the next holder") == 2
    assert marker(state)["turnId"] == "T1"
    with store.turn("main/a", wait=0) as turn:
        turn.append(turnlock.user("next"))


def test_what_a_holder_elsewhere_still_holds_here_is_no_other_hosts(state: Path) -> None:
    """The flock is asked first: it tells of every process of this kernel, whatever the claim."""
    with holder(state, "T1") as process:
        lock = Path(f"{transcript(state)}.lock")
        claim = json.loads(lock.read_text())
        lock.write_text(json.dumps(claim | {"host": "pod-1", "bootId": "the one before"}))
        done = run(state, "release", "main/a", "--yes")
        assert "cannot be asked" not in done.out
        assert "its holder is fenced" in done.out
        process.tell("too late")
        process.expect("revoked operator")
