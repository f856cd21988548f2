"""The demo as its users run it: real processes from end to end, and nothing left of them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import PROGRAM, run
from tests.helpers import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MARK = "TURNLOCK_TEST_MARK"


class Place:
    """Where a demo runs: its temporary files, and a mark by which its processes are found."""

    def __init__(self, directory: Path) -> None:
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex

    @property
    def environment(self) -> dict[str, str]:
        ours = {MARK: self.mark, "TMPDIR": str(self.temporary), "TERM": "xterm-256color"}
        # What overrules the terminal is left out; a test runner may have set it for itself.
        overruling = {"NO_COLOR", "COLUMNS", "LINES"}
        return {k: v for k, v in os.environ.items() if k not in overruling} | ours

    def files(self) -> list[Path]:
        return list(self.temporary.iterdir())

    def processes(self) -> list[int]:
        wanted = f"{MARK}={self.mark}".encode()
        return [int(one.name) for one in Path("/proc").glob("[0-9]*") if wanted in _environ(one)]


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, (pattern, text)
    return float(found[1])


def test_the_whole_story_through_a_pipe(place: Place) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--fast"],
        capture_output=True,
        text=True,
        env=place.environment,
        check=False,
        timeout=100,
    )
    told = done.stdout
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "\x1b" not in told
    assert "\r" not in told
    assert_the_session_went_on(told)
    assert_the_dead_were_cleaned_up(told)
    assert_the_contrast_is_wedged(told)
    assert (place.files(), place.processes()) == ([], [])


def assert_the_session_went_on(told: str) -> None:
    assert number(r"fenced the holder (\S+) ms after the limit", told) >= 0
    assert number(r"has main/alice after waiting (\S+) s", told) > 0
    assert "got its reply: 'practice reply 2 to: Hello" in told
    assert re.search(r"its write is refused: turn '\w+' lost session 'main/alice'", told)
    # In the order in which they happen: fence, marker, hand over, and then the zombie's write.
    moments = ("fenced the holder", "error marker: hold-limit", "has main/alice", "is refused")
    assert sorted(moments, key=told.index) == list(moments)
    # The transcript as read back: the marker stands between the question and the next turn.
    read = told[told.index("session main/alice") : told.index("session main/bob")]
    entries = ("epoch 1", "Which trains", "!! failed  hold-limit", "epoch 2", "Hello", "end ")
    assert sorted(entries, key=read.index) == list(entries)
    assert "did not answer" not in read  # the zombie's reply


def assert_the_dead_were_cleaned_up(told: str) -> None:
    assert re.search(r"removed the lock of main/bob: process \d+, dead-pid", told)
    assert "left the lock of main/carol alone: its holder lives" in told
    assert re.search(r"doctor: main/carol, process \d+ dead, dead-pid: stale \(exit code 1\)", told)
    assert re.search(r"doctor --fix: main/carol, .*: removed, .* \(exit code 0\)", told)
    assert told.count("!! failed  interrupted") == 2
    assert "2 stale locks, 2 removed, 2 markers written" in told


def assert_the_contrast_is_wedged(told: str) -> None:
    healthy, tries = re.findall(r"(\d+) of (\d+) looks said: healthy", told)[0]
    assert int(healthy) == int(tries) > 1
    assert "still holds the lock file" in told
    assert "its transcript has 1 line" in told


@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_an_end_in_the_middle_leaves_nothing(
    place: Place, ending: signal.Signals, code: int
) -> None:
    with demo(place) as process:
        until_told(process, "asks the model")
        assert len(place.processes()) > 1
        process.send_signal(ending)
        assert process.wait(30) == code
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert (place.files(), place.processes()) == ([], [])


def test_no_process_outlives_a_demo_that_was_killed(place: Place) -> None:
    with demo(place) as process:
        until_told(process, "asks the model")
        process.kill()
        process.wait()
        eventually(lambda: place.processes() == [])


@contextmanager
def demo(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*PROGRAM, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=place.environment | {"PYTHONUNBUFFERED": ""},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def until_told(process: subprocess.Popen[bytes], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line.decode():
            return
    raise AssertionError(f"it ended without saying {words!r}")


def test_on_a_terminal_it_is_drawn_and_fits(place: Place, tmp_path: Path) -> None:
    """On a usual and on a small one, at once: it is its waits that take long."""
    played = [(tmp_path / "usual", (24, 80)), (tmp_path / "small", (18, 44))]
    with ThreadPoolExecutor() as pool:
        shown = pool.map(lambda one: play_on_a_terminal(place, *one), played)
        for (state, size), (code, text) in zip(played, shown, strict=True):
            assert code == 0, text
            assert_it_is_drawn_and_fits(text, size)
            # What was played is a state directory like any other.
            assert run(state, "doctor").code == 0
            assert "hold-limit" in run(state, "sessions", "read", "main/alice").out


def play_on_a_terminal(place: Place, state: Path, size: tuple[int, int]) -> tuple[int, str]:
    return on_a_terminal(place, ["demo", "--fast", "--state-dir", str(state)], size=size)


def assert_it_is_drawn_and_fits(shown: str, size: tuple[int, int]) -> None:
    assert "\x1b[" in shown
    text = ESCAPE.sub("", shown)
    assert "revokes it in" in text
    assert "zombie" in text
    assert not [
        line for line in re.split(r"[\r\n]+", text) if len(line) > size[1] and "/" not in line
    ]
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_ctrl_c_on_a_terminal_gives_it_back_as_it_was(place: Place) -> None:
    code, shown = on_a_terminal(place, ["demo"], interrupt_at="revokes it in")
    assert code == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "Traceback" not in shown
    assert (place.files(), place.processes()) == ([], [])


@pytest.mark.parametrize("how", [["--no-color"], []], ids=["option", "variable"])
def test_without_colour_nothing_is_coloured(place: Place, how: list[str]) -> None:
    variables = {} if how else {"NO_COLOR": "1"}
    _, shown = on_a_terminal(place, ["demo", *how], variables, interrupt_at="revokes it in")
    assert not re.findall(r"\x1b\[(?:\d+;)*[349]\d(?:;\d+)*m", shown)


def on_a_terminal(
    place: Place,
    arguments: list[str],
    variables: Mapping[str, str] | None = None,
    *,
    size: tuple[int, int] = (24, 80),
    interrupt_at: str | None = None,
    program: Sequence[str] = PROGRAM,
) -> tuple[int, str]:
    """Exit code and output; Ctrl-C is typed when those words appear."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        [*program, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=place.environment | dict(variables or {}),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    killer = threading.Timer(100, process.kill)
    killer.start()
    try:
        return _shown_by(process, ours, interrupt_at)
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        os.close(ours)


def _shown_by(
    process: subprocess.Popen[bytes], terminal: int, interrupt_at: str | None
) -> tuple[int, str]:
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
        if interrupt_at is not None and interrupt_at.encode() in shown:
            os.write(terminal, b"\x03")
            interrupt_at = None
    return process.wait(30), shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when nobody has the other side any more
        return b""


def test_kept_files_are_named(place: Place) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--fast", "--keep", "--state-dir", str(place.temporary.parent / "new")],
        capture_output=True,
        text=True,
        env=place.environment,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    kept = re.search(r"^kept: (.+)$", done.stdout, re.MULTILINE)
    assert kept is not None
    assert (Path(kept[1]) / "session.jsonl").exists()


def test_a_directory_with_something_in_it_is_not_played_in(tmp_path: Path, place: Place) -> None:
    (tmp_path / "precious").write_text("")
    done = run(tmp_path, "demo", "--state-dir", str(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert "is not empty" in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_said_before_anything_is_played(
    tmp_path: Path, place: Place
) -> None:
    (tmp_path / "new").mkdir(mode=0o500)
    done = run(tmp_path, "demo", "--state-dir", str(tmp_path / "new"))
    assert (done.code, done.out) == (2, "")
    assert "cannot be played in: Permission denied" in done.err


@pytest.mark.parametrize("what", ["file", "below a file"])
def test_a_directory_that_cannot_be_is_said_before_anything_is_played(
    tmp_path: Path, place: Place, what: str
) -> None:
    (tmp_path / "file").write_text("")
    named = tmp_path / "file" if what == "file" else tmp_path / "file" / "new"
    done = run(tmp_path, "demo", "--state-dir", str(named))
    assert (done.code, done.out) == (2, "")
    assert "cannot be played in" in done.err
    assert "name a new directory" in done.err


def without(package: str) -> list[str]:
    """The command line where a package is not installed."""
    program = f"import sys; sys.modules[{package!r}] = None; import turnlock.cli"
    return [sys.executable, "-c", f"{program}; turnlock.cli.main()"]


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    done = subprocess.run(
        [*without("h11"), "demo"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "'h11'" in done.stderr
    assert "turnlock[demo]" in done.stderr


def test_without_the_drawing_library_it_is_told_line_by_line(place: Place) -> None:
    code, shown = on_a_terminal(
        place, ["demo"], program=without("rich"), interrupt_at="asks the model"
    )
    assert code == 130
    assert "turnlock[demo]" in shown
    assert not ESCAPE.search(shown)
