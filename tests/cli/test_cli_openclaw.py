"""Freeing one stuck session of OpenClaw's: named as its users name it, and nothing else changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import RunHere
from tests.cli.running import PROGRAM, Done, environment
from tests.doctor.planting import bytes_of, claim_of, everything, facts, gone_pid, start_time

SAMPLES = Path(__file__).parent.parent / "samples"
OLD, NEW = "openclaw-2026.2.17", "openclaw-2026.6.11"
ID = "d1776506-7455-493a-9031-64e7b6fa6aa8"
OTHER = "0a5c2f10-0000-4000-8000-000000000001"
KEY = "agent:main:main"
TOPIC = "agent:main:telegram:group:-1001234567:topic:42"


class Home:
    """A state directory as OpenClaw leaves it, with real transcripts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sessions = path / "agents/main/sessions"
        self.sessions.mkdir(parents=True)
        (path / "openclaw.json").write_text("{}")
        self.plant(ID, NEW)
        self.plant(f"{OTHER}-topic-42", OLD)
        self.index(
            {
                KEY: {"sessionId": ID, "sessionFile": f"/home/user/.openclaw/{ID}.jsonl"},
                TOPIC: {"sessionId": OTHER, "sessionFile": f"/x/{OTHER}-topic-42.jsonl"},
            }
        )

    def plant(self, name: str, version: str) -> None:
        transcript = self.sessions / f"{name}.jsonl"
        shutil.copy(SAMPLES / version / "transcript-hang_mid_stream.jsonl", transcript)
        transcript.chmod(0o644)

    def index(self, keys: object) -> None:
        (self.sessions / "sessions.json").write_text(json.dumps(keys))

    def lock(self, version: str, *, name: str = ID, **fields: Any) -> Path:
        """The lock of the release's sample, with these fields in place of its own."""
        sample = (SAMPLES / version / "lock-hang_mid_stream.jsonl.lock").read_text()
        claim = {key: fields.get(key, value) for key, value in json.loads(sample).items()}
        path = self.sessions / f"{name}.jsonl.lock"
        path.write_text(json.dumps(claim, indent=2) + sample[sample.rindex("}") + 1 :])
        path.chmod(0o644)
        return path

    def old(self, pid: int, age: float, name: str = ID) -> Path:
        return self.lock(OLD, name=name, **claim_of(pid, age=age))

    def new(self, pid: int, age: float, name: str = ID) -> Path:
        return self.lock(NEW, name=name, **claim_of(pid, age=age), starttime=start_time(pid))

    def aside(self) -> list[str]:
        return [name for name in os.listdir(self.sessions) if ".released-" in name]


@pytest.fixture
def home(state: Path) -> Home:
    return Home(state)


@contextmanager
def openclaw() -> Iterator[int]:
    """A live process that calls itself openclaw."""
    with subprocess.Popen(["openclaw", "1000"], executable=shutil.which("sleep")) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def live() -> Iterator[int]:
    with openclaw() as pid:
        yield pid


NAMES = [
    f"main/{ID}",
    f"main/{ID}.jsonl.lock",
    KEY,
    "AGENT:Main:main",
    "main",
    ID,
    f"{ID}.jsonl",
    f"{ID}.jsonl.lock",
    f"agents/main/sessions/{ID}.jsonl",
    "{state}/agents/main/sessions/" + f"{ID}.jsonl.lock",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_session_is_found_by_any_of_its_names(
    home: Home, live: int, run_here: RunHere, name: str
) -> None:
    path = home.new(live, 400)
    done = run_here("release", name.format(state=home.path), "--yes", "--json")
    assert done.code == 0, done.err
    assert (done.object["session"], done.object["openclaw_key"]) == (f"main/{ID}", KEY)
    assert not path.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_transcript_is_read_by_any_of_its_names(home: Home, run_here: RunHere, name: str) -> None:
    lines = run_here("sessions", "read", name.format(state=home.path), "--json").objects
    assert len(lines) == (home.sessions / f"{ID}.jsonl").read_bytes().count(b"\n") - 1


def test_a_transcript_whose_name_is_no_key_is_read_and_released_by_its_path(
    home: Home, live: int, run_here: RunHere
) -> None:
    home.plant("a b", NEW)
    path = home.new(live, 400, name="a b")
    for name in ("a b", str(path)):
        assert run_here("sessions", "read", name).code == 0
    assert run_here("release", "a b.jsonl", "--yes").code == 0
    assert not path.exists()


def test_a_path_needs_no_state_directory_and_a_relative_one_is_from_here(
    home: Home, live: int, run_here: RunHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TURNLOCK_STATE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(home.sessions)
    for name in (f"{ID}.jsonl.lock", f"./{ID}.jsonl", f"~/state/agents/main/sessions/{ID}.jsonl"):
        home.new(live, 400)
        done = run_here("release", name, "--yes", "--json")
        assert (done.code, done.object["openclaw_key"]) == (0, KEY), done.err


def test_a_path_through_a_linked_directory_is_that_of_the_session(
    home: Home, live: int, run_here: RunHere, tmp_path: Path
) -> None:
    home.sessions.rename(tmp_path / "volume")
    home.sessions.symlink_to(tmp_path / "volume")
    for directory in (home.sessions, tmp_path / "volume"):
        home.new(live, 400)
        done = run_here("release", f"{directory}/{ID}.jsonl", "--yes", "--json")
        assert (done.code, done.object["openclaw_key"]) == (0, KEY), done.err


def test_a_tilde_that_the_shell_left_is_expanded(
    home: Home, run_here: RunHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    home.old(gone_pid(), 10)
    assert len(run_here("locks", "--state-dir=~/state", "--json").object["locks"]) == 1
    monkeypatch.setenv("TURNLOCK_STATE_DIR", "~/state")
    assert len(run_here("locks", "--json").object["locks"]) == 1


def test_a_topic_is_found_by_the_file_that_its_entry_names(
    home: Home, live: int, run_here: RunHere
) -> None:
    path = home.new(live, 400, name=f"{OTHER}-topic-42")
    assert run_here("release", TOPIC, "--yes").code == 0
    assert not path.exists()


def test_past_its_limit_the_lock_is_moved_aside_and_nothing_else_changes(
    home: Home, live: int, run_here: RunHere
) -> None:
    path = home.new(live, 400)
    before = bytes_of(home.path)
    done = run_here("release", KEY, "--yes")
    assert done.code == 0
    (aside,) = home.aside()
    after = bytes_of(home.path)
    assert after.pop(f"{home.sessions}/{aside}") == before.pop(str(path))
    assert after == before
    assert f"its lock was moved aside, to {home.sessions}/{aside}" in done.out
    assert f"process {live} is no holder of Turnlock's and cannot be fenced" in done.out
    assert "may still write" in done.out
    assert f"openclaw gateway restart, or: kill {live}" in done.out
    assert f"holder   process {live} (openclaw, alive)" in done.out


def test_the_json_of_a_lock_that_was_moved_aside(home: Home, live: int, run_here: RunHere) -> None:
    home.new(live, 400)
    fate = run_here("release", KEY, "--yes", "--json").object
    (aside,) = home.aside()
    holder = fate.pop("holder")
    assert (holder["pid"], holder["pid_status"], holder["turn_id"]) == (live, "alive", None)
    assert fate == {
        "session": f"main/{ID}",
        "released": True,
        "fenced": False,
        "process": "alive",
        "marker": None,
        "openclaw_key": KEY,
        "moved_to": f"{home.sessions}/{aside}",
    }
    again = run_here("release", KEY, "--yes", "--json")
    assert (again.code, again.object["released"]) == (0, False)


@pytest.mark.parametrize("arguments", [[], ["--yes"], ["--json"], ["--yes", "--json"]])
@pytest.mark.parametrize("version", [OLD, NEW])
def test_within_its_limit_it_refuses_and_changes_nothing(
    home: Home, live: int, run_here: RunHere, version: str, arguments: list[str]
) -> None:
    if version == OLD:
        home.old(live, 700)
    else:
        home.new(live, 290)
    paths = everything(home.path)
    before = facts(paths)
    done = run_here("release", KEY, *arguments)
    assert done.code == 1
    assert f"kill {live}" in done.out + done.err
    if "--json" in arguments:
        error = done.object["error"]
        assert (error["type"], error["pid"]) == ("HolderWithinLimit", live)
        assert (error["assumed"], error["limit"]) == (
            version == OLD,
            720 if version == OLD else 300,
        )
    assert everything(home.path) == paths
    assert facts(paths) == before


def test_a_lock_of_2026_2_names_no_limit_and_its_default_is_taken(
    home: Home, live: int, run_here: RunHere
) -> None:
    home.old(live, 730)
    done = run_here("release", KEY, "--yes")
    assert done.code == 0
    assert "over its limit of 12 min 0 s, OpenClaw's default" in done.out
    assert len(home.aside()) == 1


@pytest.mark.parametrize("age", [1.0, 4000.0])
def test_a_dead_holders_lock_is_moved_at_once(home: Home, run_here: RunHere, age: float) -> None:
    path = home.old(gone_pid(), age)
    transcript = (home.sessions / f"{ID}.jsonl").read_bytes()
    done = run_here("release", KEY, "--yes")
    assert done.code == 0
    assert "was gone already" in done.out
    assert "cannot be fenced" not in done.out
    assert not path.exists()
    assert len(home.aside()) == 1
    assert (home.sessions / f"{ID}.jsonl").read_bytes() == transcript


def test_a_recycled_pid_is_a_dead_holder(home: Home, live: int, run_here: RunHere) -> None:
    home.lock(NEW, **claim_of(live, age=5), starttime=start_time(live) - 1)
    assert run_here("release", KEY, "--yes", "--json").object["fenced"] is True
    assert len(home.aside()) == 1


def test_without_a_terminal_it_moves_nothing_and_names_the_command(
    home: Home, live: int, run_here: RunHere
) -> None:
    path = home.new(live, 400)
    done = run_here("release", ID, "--state-dir", str(home.path))
    assert done.code == 2
    assert f"turnlock release {KEY} --yes" in done.err
    told = run_here("release", ID, "--json")
    assert (told.code, told.object["error"]["holder"]["pid"]) == (2, live)
    assert path.exists()


def mistake(done: Done) -> str:
    assert (done.code, done.out) == (2, "")
    return done.err


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("agent:main:mian", KEY),
        ("main/telegram", TOPIC),
        ("telegram", TOPIC),
        (ID[:8], KEY),
        (OTHER, TOPIC),
        (f"{ID}x.jsonl", KEY),
    ],
)
def test_a_name_that_is_not_there_gets_the_near_ones(
    home: Home, run_here: RunHere, text: str, near: str
) -> None:
    told = mistake(run_here("release", text, "--yes"))
    assert f"there is no session {text!r}" in told
    assert near in told


def test_an_id_that_two_agents_have_is_ambiguous(home: Home, live: int, run_here: RunHere) -> None:
    shutil.copytree(home.path / "agents/main", home.path / "agents/work")
    home.new(live, 400)
    told = mistake(run_here("release", ID, "--yes"))
    assert f"say which: main/{ID}, work/{ID}" in told
    assert run_here("release", f"main/{ID}", "--yes").code == 0


def test_a_path_of_another_state_directory_is_not_taken_for_one_of_this(
    home: Home, live: int, run_here: RunHere, tmp_path: Path
) -> None:
    elsewhere = Home(tmp_path / "elsewhere")
    path = elsewhere.new(live, 400)
    told = mistake(run_here("release", str(path), "--yes", "--state-dir", str(home.path)))
    assert f"--state-dir {elsewhere.path}" in told
    assert path.exists()


@pytest.mark.parametrize("inside", ["agents", "agents/main", "agents/main/sessions"])
@pytest.mark.parametrize(
    "arguments", [["doctor"], ["doctor", "--fix"], ["locks"], ["sessions"], ["release", KEY]]
)
def test_a_part_of_a_state_directory_is_none_and_it_says_which_was_meant(
    home: Home, run_here: RunHere, inside: str, arguments: list[str]
) -> None:
    before = bytes_of(home.path)
    told = mistake(run_here(*arguments, "--state-dir", str(home.path / inside)))
    assert f"say --state-dir {home.path}" in told
    assert bytes_of(home.path) == before


def test_nothing_is_written_into_a_part_of_a_state_directory(home: Home, run_here: RunHere) -> None:
    before = bytes_of(home.path)
    line = json.dumps({"type": "message", "message": {"role": "user", "content": "x"}})
    done = run_here("append", "main/a", "--state-dir", str(home.sessions), stdin=line)
    assert "say --state-dir" in mistake(done)
    assert bytes_of(home.path) == before


def test_a_directory_above_is_told_from_a_sound_one(
    home: Home, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNLOCK_STATE_DIR")
    above = home.path.parent
    done = run_here("doctor", "--state-dir", str(above), "--json")
    (found,) = done.object["findings"]
    assert (found["check"], found["hint"]) == (
        "no-sessions",
        f"turnlock doctor --state-dir {home.path}",
    )


def test_a_directory_that_is_empty_or_only_a_gateways_is_a_new_one(
    state: Path, run_here: RunHere
) -> None:
    state.mkdir()
    assert run_here("doctor", "--json").object["findings"] == []
    (state / "token").write_text("x")
    (state / "gateway.lock").write_text("")
    assert run_here("doctor", "--json").object["findings"] == []
    (state / "holiday.jpg").write_text("")
    assert run_here("doctor", "--json").object["findings"][0]["check"] == "no-sessions"


@pytest.mark.parametrize("variable", ["OPENCLAW_STATE_DIR", "HOME"])
def test_without_a_state_directory_it_names_openclaws_own(
    home: Home,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
) -> None:
    own = home.path if variable != "HOME" else home.path.rename(tmp_path / ".openclaw")
    monkeypatch.setenv(variable, str(own if variable != "HOME" else tmp_path))
    told = mistake(run_here("release", KEY, "--state-dir", str(tmp_path / "nowhere")))
    assert f"OpenClaw's is --state-dir {own}" in told
    # Turnlock's own place is there, and that session is not in it.
    monkeypatch.delenv("TURNLOCK_STATE_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data/turnlock/agents").mkdir(parents=True)
    told = mistake(run_here("release", KEY))
    assert f"turnlock release {KEY} --state-dir {own}" in told


def test_locks_and_doctor_show_what_openclaw_calls_the_session(
    home: Home, live: int, run_here: RunHere
) -> None:
    home.new(live, 400)
    home.old(gone_pid(), 10, name="unnamed")
    shown = run_here("locks", "--json").object["locks"]
    keys = {lock["session"]: lock.get("openclaw_key") for lock in shown}
    assert keys == {f"main/{ID}": KEY, "main/unnamed": None}
    doctors = run_here("doctor", "--json").object["locks"]
    assert [lock.get("openclaw_key") for lock in doctors] == list(keys.values())
    assert KEY in run_here("locks").out
    report = run_here("doctor")
    assert report.code == 1
    assert f"→ turnlock release {KEY}" in report.out


def test_doctor_names_the_release_of_an_old_lock_past_its_default_and_keeps_it(
    home: Home, live: int, run_here: RunHere
) -> None:
    path = home.old(live, 700)
    assert "ps -fp" in run_here("doctor", "--json").object["findings"][0]["hint"]
    home.old(live, 800)
    done = run_here("doctor", "--fix", "--json")
    assert done.code == 0
    (found,) = done.object["findings"]
    assert (found["check"], found["hint"]) == ("foreign-holder", f"turnlock release {KEY}")
    assert "longer than OpenClaw's default of 12 min 0 s" in found["message"]
    assert path.exists()


def test_doctor_names_what_release_moved_and_leaves_it(
    home: Home, live: int, run_here: RunHere
) -> None:
    home.new(live, 400)
    run_here("release", KEY, "--yes")
    done = run_here("doctor", "--fix", "--json")
    (found,) = done.object["findings"]
    assert (done.code, found["check"], found["severity"]) == (0, "released-lock", "info")
    assert found["path"] == f"{home.sessions}/{home.aside()[0]}"


def test_doctor_says_that_it_did_not_look_into_the_database(home: Home, run_here: RunHere) -> None:
    (home.path / "agents/main/agent").mkdir()
    (home.path / "agents/main/agent/openclaw-agent.sqlite").write_bytes(b"")
    (found,) = run_here("doctor", "--json").object["findings"]
    assert (found["check"], found["severity"]) == ("openclaw-database", "info")


HOSTILE: list[object] = [
    [],
    None,
    {KEY: []},
    {KEY: {"sessionId": 7, "sessionFile": ["x"]}},
    {KEY: {"sessionId": "../../../../etc/passwd"}},
    {KEY: {"sessionId": "x\0y"}},
    {KEY: {"sessionId": ""}},
    {KEY: {"sessionId": ".hidden"}},
    {KEY: {"sessionId": "x" * 5000}},
    {KEY: {"sessionId": "\ud800"}},
    {KEY: {"sessionFile": "/etc/shadow"}},
    {"": {"sessionId": ID}, "x" * 2000: {"sessionId": ID}},
]


@pytest.mark.parametrize("index", HOSTILE, ids=lambda index: repr(index)[:40])
def test_a_hostile_index_names_nothing(home: Home, run_here: RunHere, index: object) -> None:
    home.index(index)
    assert "there is no session" in mistake(run_here("release", "agent:main:zzz", "--yes"))
    assert mistake(run_here("release", KEY, "--yes"))
    assert run_here("locks").code == 0
    # By file it still goes.
    home.old(gone_pid(), 10)
    assert run_here("release", ID, "--yes").code == 0


def test_a_file_that_is_named_outside_counts_as_the_one_of_that_name_here(
    home: Home, run_here: RunHere, tmp_path: Path
) -> None:
    bait = tmp_path / f"{ID}.jsonl.lock"
    bait.write_text(json.dumps(claim_of(gone_pid())))
    home.index({KEY: {"sessionId": "x", "sessionFile": str(tmp_path / f"{ID}.jsonl")}})
    home.old(gone_pid(), 10)
    assert run_here("release", KEY, "--yes").code == 0
    assert bait.exists()
    assert len(home.aside()) == 1


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "torn", "deep"])
def test_an_index_that_is_no_file_or_no_json_does_not_stop_it(
    home: Home, run_here: RunHere, kind: str
) -> None:
    index = home.sessions / "sessions.json"
    index.unlink()
    if kind == "fifo":
        os.mkfifo(index)
    elif kind == "directory":
        index.mkdir()
    elif kind == "link":
        index.symlink_to("/dev/zero")
    else:
        index.write_text('{"agent:' if kind == "torn" else "[" * 200_000)
    home.old(gone_pid(), 10)
    assert run_here("release", ID, "--yes").code == 0


def test_a_name_that_would_steer_a_terminal_is_shown_as_it_is(
    home: Home, live: int, run_here: RunHere
) -> None:
    evil = "agent:main:\x1b[2Jx"
    home.index({evil: {"sessionId": ID}})
    home.new(live, 400)
    for done in (run_here("locks"), run_here("doctor"), run_here("release", evil, "--yes")):
        assert "\x1b" not in done.out + done.err
        assert "agent:main:\\x1b[2Jx" in done.out


def test_a_lock_outside_of_any_state_directory_is_released_by_its_path(
    tmp_path: Path, live: int, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNLOCK_STATE_DIR")
    path = tmp_path / "chat.jsonl.lock"
    path.write_text(json.dumps(claim_of(live, age=800)))
    done = run_here("release", str(path), "--yes", "--json")
    assert (done.code, done.object["session"]) == (0, str(tmp_path / "chat.jsonl"))
    assert os.path.exists(done.object["moved_to"])


@contextmanager
def asked(home: Home, name: str = KEY) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``release`` on a terminal, once it has asked; what is written to the second is typed."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "release", name],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(home.path, TERM="dumb"),
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


@pytest.mark.processes
@pytest.mark.parametrize(("answer", "code", "moved"), [(b"n\n", 1, 0), (b"y\n", 0, 1)])
def test_on_a_terminal_it_asks(home: Home, live: int, answer: bytes, code: int, moved: int) -> None:
    path = home.new(live, 400)
    with asked(home) as (process, terminal):
        assert path.exists()
        os.write(terminal, answer)
        assert process.wait(10) == code
    assert (len(home.aside()), path.exists()) == (moved, not moved)


@pytest.mark.processes
@pytest.mark.parametrize("anew", [True, False], ids=["new file", "in place"])
def test_a_yes_is_for_the_lock_that_was_shown(home: Home, live: int, anew: bool) -> None:
    path = home.new(live, 400)
    with asked(home) as (process, terminal), openclaw() as other:
        # The holder let go and another took it: to the eye nearly the same lock.
        if anew:
            path.unlink()
        home.new(other, 401)
        os.write(terminal, b"y\n")
        assert process.wait(10) == 1
    assert home.aside() == []
    assert json.loads(path.read_text())["pid"] == other
