"""``turnlock append``: acknowledged means durable, one turn for all, and mistakes named."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import RunHere
from tests.cli.running import (
    a_message,
    entries,
    environment,
    errors_of,
    line_of,
    marker,
    run,
    running,
    story,
    tell,
    transcript,
)
from tests.helpers import PATIENCE, eventually, holder

pytestmark = pytest.mark.processes


def test_each_entry_is_acknowledged_and_all_are_one_turn(state: Path, run_here: RunHere) -> None:
    lines = [a_message("one", id="first"), "", a_message("two")]
    done = run_here("append", "main/a", "--turn-id", "T", stdin="\n".join(lines))
    assert done.code == 0, done.err
    stored = [entry for entry in entries(state) if entry["type"] == "message"]
    assert done.objects == [{"id": entry["id"], "epoch": 1} for entry in stored]
    assert stored[0]["id"] == "first"
    assert story(state) == ["turnlock:turn", "one", "two", "turnlock:end"]


def test_an_acknowledgement_does_not_wait_for_the_next_line(state: Path) -> None:
    with running(state, "append", "main/a") as process:
        tell(process, a_message("one"))
        acknowledged = json.loads(line_of(process))
        assert [one["id"] for one in entries(state)][-1] == acknowledged["id"]
        assert run(state, "append", "main/a", "--wait", "0", stdin=a_message("no")).code == 75


def test_no_input_takes_no_session(state: Path, run_here: RunHere) -> None:
    done = run_here("append", "main/a", stdin="\n \n")
    assert (done.code, done.out) == (0, "")
    assert not state.exists()


def test_an_entry_that_is_there_already_keeps_its_epoch(state: Path, run_here: RunHere) -> None:
    line = a_message("one", id="same")
    first = run_here("append", "main/a", stdin=line)
    before = transcript(state).read_bytes()
    again = run_here("append", "main/a", stdin=line)
    assert again.out == first.out
    assert transcript(state).read_bytes() == before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no json", "it is not JSON"),
        ("[1]", "it is a JSON list, and an entry is an object"),
        ('{"type": "message", "x": NaN}', "it is not JSON: NaN"),
        ('{"no": "type"}', "an entry needs a 'type'"),
        ('{"type": "session"}', "entries of type 'session' are not yours"),
        ('{"type": "message", "id": "\\u001b"}', "the entry's id"),
        ("[" * 100_000, "it is"),
    ],
    ids=lambda value: value[:20],
)
def test_a_bad_line_is_named_and_what_was_acknowledged_stays(
    state: Path, run_here: RunHere, line: str, why: str
) -> None:
    done = run_here("append", "main/a", stdin=f"{a_message('one')}\n\n{line}\n{a_message('x')}\n")
    assert done.code == 2
    assert f"line 3 of stdin: {why}" in done.err
    assert len(done.objects) == 1
    assert story(state) == ["turnlock:turn", "one", "error"]
    assert "line 3 of stdin" in marker(state)["error"]


def test_a_first_line_that_is_no_json_leaves_no_trace(state: Path, run_here: RunHere) -> None:
    assert run_here("append", "main/a", stdin="no json").code == 2
    assert not state.exists()


def test_a_busy_session_is_exit_75_with_the_holder(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1") as process:
        done = run_here("append", "main/a", "--wait", "0", "--json", stdin=a_message("x"))
    error = done.object["error"]
    assert done.code == 75
    assert (error["type"], error["session"]) == ("SessionBusy", "main/a")
    assert (error["holder_pid"], error["holder_turn"]) == (process.pid, "T1")
    assert error["limit"] == 300.0


def test_a_limit_ends_the_wait_for_input(state: Path) -> None:
    with running(state, "append", "main/a", "--max-hold", "0.3") as process:
        tell(process, a_message("one"))
        line_of(process)
        assert process.wait(10) == 124
        assert "hold-limit" in errors_of(process)
    assert story(state) == ["turnlock:turn", "one", "hold-limit"]


def test_a_release_by_another_process_ends_the_wait_for_input(state: Path) -> None:
    with running(state, "append", "main/a") as process:
        tell(process, a_message("one"))
        line_of(process)
        assert run(state, "release", "main/a", "--yes").code == 0
        assert process.wait(10) == 124
        assert "operator" in errors_of(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_turn_with_a_marker(state: Path, number: signal.Signals) -> None:
    with running(state, "append", "main/a") as process:
        tell(process, a_message("one"))
        line_of(process)
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert errors_of(process) == ""
    assert marker(state)["reason"] == "cancelled"
    assert number.name in marker(state)["error"]


def test_a_signal_ends_the_wait_for_the_session(state: Path) -> None:
    with holder(state, "T1"), running(state, "append", "main/a") as process:
        tell(process, a_message("one"))
        eventually(lambda: os.listdir(f"/proc/{process.pid}/task")[1:])
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


def test_a_reader_of_acknowledgements_that_goes_away_ends_the_turn(state: Path) -> None:
    with running(state, "append", "main/a") as process:
        assert process.stdout is not None
        process.stdout.close()
        tell(process, a_message("one"))
        assert process.wait(10) == 141
        assert errors_of(process) == ""
        process.stdout = None
    assert story(state) == ["turnlock:turn", "one", "error"]


SMALL_FILES = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (8192, 8192));"


def test_what_the_storage_refuses_is_not_acknowledged(state: Path) -> None:
    program = f"{SMALL_FILES} from turnlock.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "append", "main/a"],
        input=f"{a_message('one')}\n{a_message('x' * 9000)}\n",
        capture_output=True,
        text=True,
        env=environment(state),
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--wait", "soon"), ("--wait", "-1"), ("--max-hold", "0"), ("--max-hold", "nan"),
     ("--turn-id", "\x1b"), ("--turn-id", "x" * 200)],
)  # fmt: skip
def test_an_option_out_of_range_is_exit_2(
    state: Path, run_here: RunHere, option: str, value: str
) -> None:
    done = run_here("append", "main/a", option, value, stdin=a_message("x"))
    assert (done.code, done.out) == (2, "")
    assert "\x1b" not in done.err
    assert not state.exists()


def test_the_last_entry_may_wait_for_ever(state: Path) -> None:
    forever = running(state, "append", "main/a", "--wait", "forever")
    with holder(state, "T1") as process, forever as waiter:
        tell(waiter, a_message("after"))
        process.kill()
        assert json.loads(line_of(waiter))["epoch"] == 2


WITH_MANY_DESCRIPTORS = """
import os, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, most))
nothing = os.open(os.devnull, os.O_RDONLY)
while os.dup(nothing) < 1100:
    pass
for number in range(3, 1101):
    os.set_inheritable(number, True)
os.execv(sys.executable, [sys.executable, "-m", "turnlock", *sys.argv[1:]])
"""


@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000, reason="it may not open so many"
)
def test_it_works_behind_a_thousand_inherited_descriptors(state: Path) -> None:
    command = [sys.executable, "-c", WITH_MANY_DESCRIPTORS, "append", "main/a"]
    done = subprocess.run(
        command,
        input=a_message("hello").encode(),
        capture_output=True,
        env=environment(state),
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert story(state) == ["turnlock:turn", "hello", "turnlock:end"]
