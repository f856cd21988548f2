"""``turnlock sessions``, ``sessions read`` and ``locks``."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import a_turn, transcript
from tests.helpers import holder
from turnlock.cli.lock_table import state_of
from turnlock.cli.reading import Reader
from turnlock.transcript.entries import entry_object
from turnlock.transcript.jsonl import Line

SAMPLES = Path(__file__).parent.parent / "samples"


def test_sessions_are_listed(state: Path, run_here: RunHere) -> None:
    a_turn(state, "main/b")
    a_turn(state, "main/a")
    plain = run_here("sessions").out.splitlines()
    assert [line.split()[0] for line in plain] == ["main/a", "main/b"]
    found = run_here("sessions", "--json").object["sessions"]
    assert [one["session"] for one in found] == ["main/a", "main/b"]
    assert found[0]["size"] == transcript(state).stat().st_size


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400, "-1"])
@pytest.mark.parametrize(
    ("custom", "shown"), [("turnlock:end", "end"), ("openclaw:prompt-error", "!! failed")]
)
def test_a_time_that_none_can_be_hides_nothing(
    state: Path, run_here: RunHere, number: str, custom: str, shown: str
) -> None:
    a_turn(state)
    odd = '{"type":"custom","id":"odd","customType":"%s","data":{"heldMs":%s,"x":[%s]}}'
    with transcript(state).open("a") as file:
        file.write(odd % (custom, number, number) + "\n")
    a_turn(state, text="after it")
    done = run_here("sessions", "read", "main/a")
    assert (done.code, done.err) == (0, "")
    assert shown in done.out
    assert "after it" in done.out
    strict = json.loads(
        run_here("sessions", "read", "main/a", "--json").out.splitlines()[3],
        parse_constant=lambda word: pytest.fail(f"{word} is no JSON"),
    )
    expected = None if "e" in number else int(number)
    assert strict["data"] == {"heldMs": expected, "x": [expected]}


@pytest.mark.parametrize(
    ("command", "listed"),
    [
        (("locks",), "locks"),
        (("sessions",), "sessions"),
        (("prune", "--idle-days", "1e-9"), "sessions"),
        (("prune", "--idle-days", "1e-9", "--no-archive", "--delete"), "sessions"),
    ],
    ids=["locks", "sessions", "prune", "prune-delete"],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_directory_that_cannot_be_listed_is_told_beside_what_can(
    state: Path, run_here: RunHere, command: tuple[str, ...], listed: str, as_json: bool
) -> None:
    a_turn(state)
    other = state / "agents" / "other"
    other.mkdir()
    # Nobody can list it, root neither.
    (other / "sessions").symlink_to("sessions")
    done = run_here(*command, *(["--json"] if as_json else []))
    assert (done.code, done.err.count("sessions' cannot be listed")) == (2, 1)
    if as_json:
        path = str(other / "sessions")
        why = os.strerror(errno.ELOOP)
        assert done.object["unreadable"] == [{"path": path, "why": why}]
        assert len(done.object[listed]) == (0 if command == ("locks",) else 1)
    else:
        assert "no session is held" not in done.out


def test_reading_gives_every_entry_with_kind_id_and_epoch(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    with pytest.raises(ValueError), turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("again"))
        raise ValueError("no")
    done = run_here("sessions", "read", "main/a", "--json")
    assert run_here("sessions", "--json", "read", "main/a") == done
    lines = done.objects
    assert [(line["kind"], line["epoch"]) for line in lines] == [
        ("opening", 1),
        ("message", 1),
        ("end", 1),
        ("opening", 2),
        ("message", 2),
        ("error-marker", 2),
    ]
    assert all(line["id"] for line in lines)
    assert lines[1]["message"]["content"][0]["text"] == "hello"


@pytest.mark.processes
def test_markers_are_in_plain_sight(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1") as process:
        run_here("release", "main/a", "--yes")
        process.kill()
    shown = run_here("sessions", "read", "main/a").out
    assert "epoch 1  turn T1\n" in shown
    assert "user       from T1\n" in shown
    assert "!! failed  operator: an operator took the session from this turn (after" in shown


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_session_that_is_not_there_is_exit_2(
    state: Path, run_here: RunHere, extra: list[str]
) -> None:
    a_turn(state)
    done = run_here("sessions", "read", "main/b", *extra)
    assert done.code == 2
    assert "there is no session 'main/b'" in (done.out if extra else done.err)


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_damaged_lines_are_skipped_and_counted_and_blank_ones_are_none(
    state: Path, run_here: RunHere, extra: list[str]
) -> None:
    a_turn(state)
    with transcript(state).open("ab") as file:
        file.write(b'{"cut sh\n\n{"type":"message","id":"after"}\n \nfragment')
    done = run_here("sessions", "read", "main/a", *extra)
    assert done.code == 0
    assert done.err == "turnlock: 1 damaged line skipped (turnlock doctor)\n"
    assert "fragment" not in done.out
    assert '"after"' in done.out or "~~ damaged line at byte" in done.out


def test_what_is_no_transcript_cannot_be_read(state: Path, run_here: RunHere) -> None:
    transcript(state).mkdir(parents=True)
    done = run_here("sessions", "read", "main/a", "--json")
    assert done.code == 2
    assert done.object["error"]["type"] == "CannotLook"


@pytest.mark.processes
def test_locks_name_their_holders(state: Path, run_here: RunHere) -> None:
    with holder(state, "T1", max_hold=60.0) as process:
        plain = run_here("locks").out
        [lock] = run_here("locks", "--json").object["locks"]
    assert plain.split()[:6] == ["held", "main/a", "pid", str(process.pid), "alive", "turn"]
    assert (lock["turn_id"], lock["max_hold_seconds"], lock["stale"]) == ("T1", 60.0, False)
    assert lock["reasons"] == []


def test_no_lock_is_no_lock(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    assert run_here("locks") == (0, "no session is held\n", "")
    assert run_here("locks", "--json").object == {"locks": []}


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/transcript-*.jsonl")), ids=lambda p: p.stem)
def test_what_openclaw_wrote_can_be_read(path: Path) -> None:
    reader = Reader("main/a")
    shown = []
    for raw in path.read_bytes().splitlines():
        entry = json.loads(raw)
        shown += reader.lines(Line(0, raw, entry, len(raw), len(raw) + 1))
        assert entry_object(entry)["kind"]
    assert shown[0] == "session main/a"
    assert any("user       MODE=" in line for line in shown)
    failed = b"openclaw:prompt-error" in path.read_bytes()
    assert failed == any("!! failed" in line for line in shown)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"type": None, "id": 1, "epoch": "x"},
        {"type": "message", "message": None},
        {"type": "message", "message": {"role": 1, "content": 2}},
        {"type": "message", "message": {"role": "assistant", "content": [{"type": []}, 3]}},
        {"type": "custom", "customType": "openclaw:prompt-error"},
        {"type": "custom", "customType": "turnlock:end", "data": {"heldMs": "x"}, "epoch": 2**70},
    ],
)
def test_no_entry_is_too_odd_to_be_shown(entry: dict[str, object]) -> None:
    assert Reader("main/a").lines(Line(0, b"", entry, 0, 1))
    assert set(entry_object(entry)) >= {"kind", "id", "epoch"}


def test_a_lock_has_one_state(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a"):
        [lock] = turnlock.open_store(state).locks()
    assert state_of(lock) == "held"
    assert state_of(lock._replace(reasons=("over-limit",))) == "over limit"
    assert state_of(lock._replace(stale=True)) == "stale"
    assert state_of(lock._replace(stale=True, removed=True)) == "removed"
    assert state_of(lock._replace(pid_status="unknown")) == "unknown"
