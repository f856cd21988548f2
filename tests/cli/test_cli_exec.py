"""``turnlock exec``: a command under a lease, and nothing of it left when the lease is gone."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import (
    PROGRAM,
    a_turn,
    environment,
    errors_of,
    line_of,
    marker,
    run,
    running,
    story,
    transcript,
)
from tests.helpers import PATIENCE, eventually, holder, is_gone

pytestmark = pytest.mark.processes


def test_the_command_has_our_streams_and_knows_its_session(state: Path) -> None:
    show = 'cat; echo "$TURNLOCK_SESSION $TURNLOCK_TURN_ID $TURNLOCK_STATE_DIR" >&2'
    done = run(state, "exec", "main/a", "--turn-id", "T", "--", "sh", "-c", show, stdin="through\n")
    assert done == (0, "through\n", f"main/a T {state}\n")


def test_a_command_that_ends_well_leaves_no_trace(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    before = transcript(state).read_bytes()
    assert run_here("exec", "main/a", "--", "true").code == 0
    assert transcript(state).read_bytes() == before
    assert turnlock.open_store(state).locks() == []


@pytest.mark.parametrize(
    ("script", "code", "error"),
    [
        ("exit 3", 3, "'sh' exited with status 3"),
        ("kill -KILL $$", 137, "'sh' was ended by SIGKILL"),
        ("exit 75", 75, "'sh' exited with status 75"),
    ],
)
def test_a_command_that_fails_leaves_a_marker_and_its_code(
    state: Path, run_here: RunHere, script: str, code: int, error: str
) -> None:
    assert run_here("exec", "main/a", "--", "sh", "-c", script) == (code, "", "")
    assert marker(state)["reason"] == "error"
    assert error in marker(state)["error"]


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [("no-such-command", 127, "was not found"), ("/", 126, "cannot be started")],
)
def test_a_command_that_cannot_be_started_is_as_in_a_shell(
    state: Path, run_here: RunHere, command: str, code: int, why: str
) -> None:
    done = run_here("exec", "main/a", "--", command)
    assert done.code == code
    assert why in done.err
    assert why in marker(state)["error"]
    assert turnlock.open_store(state).locks() == []


def test_arguments_are_not_written_down(state: Path, run_here: RunHere) -> None:
    run_here("exec", "main/a", "--", "false", "--password", "hunter2")
    assert b"hunter2" not in transcript(state).read_bytes()


@pytest.mark.parametrize("arguments", [[], ["ls", "-l"]], ids=["none", "without-dashes"])
def test_a_command_has_to_follow_two_dashes(
    state: Path, run_here: RunHere, arguments: list[str]
) -> None:
    assert run_here("exec", "main/a", *arguments).code == 2
    assert not state.exists()


def test_a_busy_session_runs_no_command(state: Path, run_here: RunHere, tmp_path: Path) -> None:
    with holder(state, "T1"):
        done = run_here("exec", "main/a", "--wait", "0", "--", "touch", str(tmp_path / "ran"))
    assert done.code == 75
    assert "'T1'" in done.err
    assert not (tmp_path / "ran").exists()


def test_the_session_is_held_while_the_command_runs(state: Path) -> None:
    with running(state, "exec", "main/a", "--", "sh", "-c", "echo up; cat") as process:
        assert line_of(process) == "up"
        assert run(state, "exec", "main/a", "--wait", "0", "--", "true").code == 75
        [lock] = json.loads(run(state, "locks", "--json").out)["locks"]
        assert (lock["session"], lock["pid"]) == ("main/a", process.pid)


FAMILY = """
trap 'echo told; exit 0' TERM
sh -c 'trap "" TERM; while :; do sleep 0.1; done' &
echo $$ $!
while :; do sleep 0.05; done
"""


def test_a_released_session_ends_the_whole_group(state: Path) -> None:
    with running(state, "exec", "main/a", "--turn-id", "T", "--", "sh", "-c", FAMILY) as process:
        leader, child = map(int, line_of(process).split())
        released = run(state, "release", "main/a", "--yes", "--json").object
        assert (released["released"], released["fenced"]) == (True, True)
        assert line_of(process) == "told"
        assert process.wait(15) == 124
        assert "turn 'T' lost session 'main/a'" in errors_of(process)
        assert is_gone(leader)
        assert is_gone(child)
    assert story(state) == ["turnlock:turn", "operator"]


def test_a_stopped_group_is_told_as_well(state: Path) -> None:
    script = "trap 'echo told; exit' TERM; echo up; kill -STOP $$; sleep 60"
    with running(state, "exec", "main/a", "--max-hold", "0.4", "--", "sh", "-c", script) as process:
        assert line_of(process) == "up"
        assert line_of(process) == "told"
        assert process.wait(15) == 124
    assert marker(state)["reason"] == "hold-limit"


def test_a_command_without_output_stalls(state: Path, run_here: RunHere) -> None:
    done = run_here("exec", "main/a", "--max-stall", "0.3", "--", "sleep", "60")
    assert done.code == 124
    assert marker(state)["reason"] == "stall-limit"


def test_output_is_progress_and_passes_through(run_here: RunHere) -> None:
    chatter = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done; echo end >&2; exit 5"
    done = run_here("exec", "main/a", "--max-stall", "0.4", "--", "sh", "-c", chatter)
    assert done == (5, "1\n2\n3\n4\n5\n6\n", "end\n")


# More than fits into one pipe, and less than into two and the copier's hands: the command ends.
MUCH = "seq 1 18000; touch {done}"
# So that whoever does not wait is gone before anybody reads.
SHORT_OF_PATIENCE = """
from turnlock.cli import copying, main
copying._GRACE_SECONDS = 0.01
main()
"""


@contextmanager
def nobody_reads(state: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``exec --max-stall`` whose command has ended well; of its output nothing was read yet."""
    script = MUCH.format(done=tmp_path / "done")
    command = ["exec", "main/a", "--max-stall", "60", "--", "sh", "-c", script]
    with subprocess.Popen(
        [sys.executable, "-c", SHORT_OF_PATIENCE, *command],
        stdout=subprocess.PIPE,
        env=environment(state),
    ) as process:
        try:
            eventually((tmp_path / "done").exists)
            eventually(lambda: not Path(f"{transcript(state)}.lock").exists())
            yield process
        finally:
            process.kill()


def test_a_slow_reader_gets_all_output_of_the_command(state: Path, tmp_path: Path) -> None:
    with nobody_reads(state, tmp_path) as process:
        # It keeps nobody from the session.
        assert run(state, "exec", "main/a", "--wait", "0", "--", "true").code == 0
        assert process.stdout is not None
        assert process.stdout.read().split() == [b"%d" % i for i in range(1, 18001)]
        assert process.wait(PATIENCE) == 0


def test_a_signal_ends_the_wait_for_a_slow_reader(state: Path, tmp_path: Path) -> None:
    with nobody_reads(state, tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143


def test_a_revoked_command_waits_for_no_reader(state: Path) -> None:
    limits = ("--max-hold", "1", "--max-stall", "60")
    script = "seq 1 18000; sleep 60"
    with running(state, "exec", "main/a", *limits, "--", "sh", "-c", script) as process:
        assert process.wait(PATIENCE) == 124


def test_a_reader_that_made_the_pipe_unblocking_is_waited_for_as_well(
    state: Path, tmp_path: Path
) -> None:
    script = MUCH.format(done=tmp_path / "done")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [*PROGRAM, "exec", "main/a", "--max-stall", "60", "--", "sh", "-c", script]
    with (
        open(reader, "rb") as output,
        subprocess.Popen(command, stdout=writer, env=environment(state)) as process,
    ):
        os.close(writer)
        eventually((tmp_path / "done").exists)
        assert len(output.read().split()) == 18000
        assert process.wait(PATIENCE) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("script", "code"), [("echo lost", 1), ("echo lost; exit 7", 7)])
def test_output_that_cannot_be_written_is_said_and_is_no_success(
    state: Path, script: str, code: int
) -> None:
    command = [*PROGRAM, "exec", "main/a", "--max-stall", "60", "--", "sh", "-c", script]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(state),
            timeout=PATIENCE,
            check=False,
        )
    said = os.strerror(errno.ENOSPC)
    assert (done.returncode, done.stderr.decode()) == (code, f"turnlock: stdout: {said}\n")


def test_output_of_what_stays_behind_keeps_nobody_waiting(state: Path) -> None:
    """It gets a pipe without a reader, as it does when any program that it wrote to ends."""
    script = "echo first; while echo y; do :; done 2>/dev/null &"
    done = run(state, "exec", "main/a", "--max-stall", "60", "--", "sh", "-c", script)
    assert (done.code, done.out[:6], done.err) == (0, "first\n", "")


# Not for ever: what started it may end without a word to it.
HEARS = "trap 'echo heard; exit 7' {}; echo up; while kill -0 $PPID 2>&-; do sleep 0.05; done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_the_command_decides(state: Path, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = HEARS.format(name)
    with running(state, "exec", "main/a", "--", "sh", "-c", script) as process:
        line_of(process)
        process.send_signal(number)
        assert line_of(process) == "heard"
        assert process.wait(10) == 7
    assert marker(state)["reason"] == "cancelled"
    assert f"after {number.name} was passed on" in marker(state)["error"]


def test_a_command_that_dies_of_the_signal_is_128_and_its_number(state: Path) -> None:
    with running(state, "exec", "main/a", "--", "sh", "-c", "echo up; cat") as process:
        line_of(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
os.execv(sys.executable, [sys.executable, "-m", "turnlock", *sys.argv[1:]])
"""


@pytest.mark.parametrize("limits", [(), ("--max-stall", "60")])
def test_signals_that_were_blocked_for_it_arrive(state: Path, limits: tuple[str, ...]) -> None:
    """A supervisor that reads signals from a descriptor may leave them blocked for others."""
    script = HEARS.format("TERM")
    command = ["exec", "main/a", *limits, "--", "sh", "-c", script]
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED, *command], stdout=subprocess.PIPE, env=environment(state)
    ) as process:
        try:
            assert line_of(process) == "up"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 7
        finally:
            process.kill()


def test_the_end_of_a_command_is_seen_where_its_signal_was_blocked(state: Path) -> None:
    command = ["exec", "main/a", "--max-hold", "15", "--", "true"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *command], env=environment(state), check=False
    )
    assert done.returncode == 0


def test_signals_are_blocked_again_afterwards(state: Path, run_here: RunHere) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        assert run_here("exec", "main/a", "--", "true").code == 0
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


ON_A_TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"


def test_a_command_can_read_its_terminal(state: Path) -> None:
    """In a background group of the terminal's own session it would be stopped."""
    command = [*PROGRAM, "exec", "main/a", "--", "sh", "-c", "read x; echo got $x"]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL, *command],
        input=b"input\n",
        capture_output=True,
        env=environment(state),
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"got input" in done.stdout


def test_a_lock_file_removed_by_hand_ends_the_command(state: Path) -> None:
    with running(state, "exec", "main/a", "--", "sh", "-c", "echo up; sleep 60") as process:
        line_of(process)
        Path(f"{transcript(state)}.lock").unlink()
        assert process.wait(10) == 124


def test_the_next_command_gets_the_session_when_one_was_killed(state: Path) -> None:
    with running(
        state, "exec", "main/a", "--turn-id", "T", "--", "sh", "-c", "echo $$; cat"
    ) as one:
        pid = int(line_of(one))
        one.kill()
        assert run(state, "exec", "main/a", "--wait", "0", "--", "true").code == 0
        os.kill(pid, signal.SIGKILL)
    assert marker(state)["reason"] == "interrupted"


def until_gone(pid: int) -> Callable[[], bool]:
    return lambda: is_gone(pid)


def test_what_the_command_leaves_behind_goes_on_without_the_session(state: Path) -> None:
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    done = run(state, "exec", "main/a", "--", "sh", "-c", script)
    pid = int(done.out)
    assert done.code == 0
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)
    eventually(until_gone(pid))
