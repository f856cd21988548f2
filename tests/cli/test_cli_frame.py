"""The frame of every command: options, exit codes, errors, streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import PROGRAM, a_turn, environment
from turnlock.cli.commands import COMMANDS
from turnlock.cli.exits import WrongInput, exit_code
from turnlock.doctor.looking import CannotLook

LOOKING = (
    ["doctor"],
    ["locks"],
    ["sessions"],
    ["sessions", "read", "main/a"],
    ["release", "main/a"],
)


def test_help_names_every_command_without_importing_one(run_here: RunHere) -> None:
    done = run_here()
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(state: Path, run_here: RunHere, name: str) -> None:
    done = run_here(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert "--state-dir" in done.out


@pytest.mark.parametrize("arguments", [["--version"], ["doctor", "--version"]])
def test_the_version_is_told_before_and_after_a_command(
    run_here: RunHere, arguments: list[str]
) -> None:
    assert run_here(*arguments).out == f"turnlock {turnlock.__version__}\n"


def test_the_state_directory_named_last_counts(
    tmp_path: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_turn(tmp_path / "right")
    right, wrong = str(tmp_path / "right"), str(tmp_path / "wrong")
    after = run_here("--state-dir", wrong, "sessions", "--state-dir", right)
    before = run_here("--state-dir", right, "sessions")
    monkeypatch.setenv("TURNLOCK_STATE_DIR", right)
    variable = run_here("sessions")
    assert after.out == before.out == variable.out
    assert after.out.startswith("main/a ")


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["doctor", "--nothing"], ["release"], ["--state-dir", "", "doctor"]],
)
def test_a_wrong_command_line_is_exit_2_and_one_line(
    run_here: RunHere, arguments: list[str]
) -> None:
    done = run_here(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("turnlock: ")


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_without_a_state_directory_there_is_nothing_to_look_at(
    state: Path, run_here: RunHere, arguments: list[str]
) -> None:
    done = run_here(*arguments)
    assert done.code == 2
    assert "there is no such directory" in done.err
    assert not state.exists()


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_a_file_in_place_of_the_state_directory_cannot_be_looked_at(
    state: Path, run_here: RunHere, arguments: list[str]
) -> None:
    state.write_text("")
    done = run_here(*arguments, "--json")
    assert done.code == 2
    error = done.object["error"]
    assert (error["type"], error["path"]) == ("CannotLook", str(state))
    assert error["why"] == "it is not a directory"


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["doctor"], ["sessions"]], ids=" ".join)
def test_an_unreadable_state_directory_is_exit_2(state: Path, arguments: list[str]) -> None:
    a_turn(state)
    (state / "agents").chmod(0)
    done = run_unprivileged(state, *arguments)
    assert done.returncode == 2, done.stderr
    assert "ermission denied" in done.stderr
    assert "Traceback" not in done.stderr


def run_unprivileged(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user who is not root, with the modules that root has loaded."""
    program = f"""if True:
        import os, sys
        import turnlock.cli.doctor, turnlock.cli.frame, turnlock.cli.locks, turnlock.cli.sessions
        import turnlock.doctor.examine, platformdirs.unix
        if os.geteuid() == 0:
            for directory in {[str(one) for one in (state, *state.parents)]!r}[:-2]:
                os.chmod(directory, 0o755)
            os.setgid(12345)
            os.setuid(12345)
        raise SystemExit(turnlock.cli.frame.run(sys.argv[1:]))
    """
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment(state),
        capture_output=True,
        text=True,
        check=False,
    )


def test_errors_on_the_command_line_are_json_too(run_here: RunHere) -> None:
    done = run_here("append", "no key", "--json")
    assert done.code == 2
    error = done.object["error"]
    assert error["type"] == "InvalidSessionKey"
    assert error["key"] == "no key"
    assert "turnlock.session_key" in error["hint"]


def test_json_after_two_dashes_belongs_to_the_command(run_here: RunHere) -> None:
    done = run_here("exec", "no key", "--", "true", "--json")
    assert (done.code, done.out) == (2, "")


def test_every_error_has_its_exit_code() -> None:
    codes = {
        turnlock.SessionBusy("main/a"): 75,
        turnlock.LeaseRevoked("main/a", turn_id="T", held=1.0, reason="operator"): 124,
        turnlock.InvalidSessionKey("x", "why"): 2,
        turnlock.LimitsError("wait", -1, "why"): 2,
        turnlock.ConfigError("x", "why"): 2,
        WrongInput("why"): 2,
        CannotLook("x", "why"): 2,
        turnlock.StoreError("x", "append", "why"): 1,
        turnlock.GuardTimeout("x", pid=1, state=None, waited=1.0): 1,
        turnlock.LockPathError("x", "why"): 1,
        turnlock.TranscriptError("x", "why"): 1,
        turnlock.TurnlockError("why"): 1,
    }
    assert {error: exit_code(error) for error in codes} == codes


@pytest.mark.processes
def test_a_reader_that_goes_away_is_no_error(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(*(turnlock.user("x" * 1000) for _ in range(200)))
    process = subprocess.Popen(
        [*PROGRAM, "sessions", "read", "main/a"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(state),
    )
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (141, b"")


@pytest.mark.processes
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line(state: Path) -> None:
    a_turn(state)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "sessions"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(state),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize("closed", [">&- 2>&-", "<&-"])
def test_a_closed_stream_is_no_traceback(state: Path, closed: str) -> None:
    a_turn(state)
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {closed}', "sh", *PROGRAM, "doctor"],
        capture_output=True,
        env=environment(state),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.processes
def test_ctrl_c_is_exit_130_and_no_traceback(state: Path) -> None:
    done = run_patched(state, "def fail(*a): raise KeyboardInterrupt", "locks")
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.processes
def test_a_bug_of_ours_is_one_line(state: Path) -> None:
    done = run_patched(state, "def fail(*a): raise ZeroDivisionError('by zero')", "locks")
    assert done.returncode == 1
    assert done.stderr == (
        "turnlock: internal error: ZeroDivisionError: by zero (TURNLOCK_TRACEBACK=1 shows where)\n"
    )


def run_patched(state: Path, fail: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in which every look at a store fails."""
    program = f"import sys, turnlock.store\n{fail}\nturnlock.store.Store.locks = fail\n"
    state.mkdir()
    return subprocess.run(
        [sys.executable, "-c", program + "from turnlock.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env=environment(state),
        check=False,
    )


WITHOUT_EXTRAS = """
import sys
for name in ("starlette", "uvicorn", "h11", "openai", "httpx", "anyio"):
    sys.modules[name] = None
from turnlock.cli import main
main()
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["doctor"], 0),
        (["release", "main/a", "--yes"], 0),
        (["exec", "main/a", "--", "true"], 0),
        (["gateway"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_the_core_install_has_all_but_the_services(
    state: Path, arguments: list[str], code: int
) -> None:
    a_turn(state)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *arguments],
        input="",
        capture_output=True,
        text=True,
        env=environment(state),
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("pip install 'turnlock[gateway]'" in done.stderr) == (code == 2)
