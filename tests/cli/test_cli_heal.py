"""``turnlock sessions heal``, and how ``doctor --deep`` shows how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import a_turn, story, transcript
from tests.helpers import holder


def damaged(state: Path) -> Path:
    a_turn(state)
    path = transcript(state)
    path.write_bytes(path.read_bytes() + b'{"cut\n')
    return path


def test_a_healed_transcript_is_told_of_and_kept(state: Path, run_here: RunHere) -> None:
    path = damaged(state)
    done = run_here("sessions", "heal", "main/a")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("healed main/a\n  3 entries were kept\n  1 piece of damaged lines")
    (original,) = path.parent.glob("*.bak")
    assert f"the original is {original}" in done.out
    assert f"the damaged bytes are in {path}.torn" in done.out
    assert b'{"cut' not in path.read_bytes()
    again = run_here("sessions", "heal", "main/a")
    assert "nothing to heal" in again.out
    assert run_here("doctor", "--deep").code == 0


def test_one_entry_that_was_glued_gets_a_line_of_its_own(state: Path, run_here: RunHere) -> None:
    path = damaged(state)
    *before, last, cut = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(before) + cut.rstrip() + last)
    assert "  1 entry put on a line of its own\n" in run_here("sessions", "heal", "main/a").out


def test_programs_get_one_object(state: Path, run_here: RunHere) -> None:
    path = damaged(state)
    found = run_here("sessions", "heal", "main/a", "--json").object
    assert (found["session"], found["path"], found["healed"]) == ("main/a", str(path), True)
    assert (found["changes"]["damaged"], found["torn"]) == (1, f"{path}.torn")
    again = run_here("sessions", "--json", "heal", "main/a").object
    assert (again["healed"], again["changes"], again["original"]) == (False, None, None)


@pytest.mark.processes
def test_a_session_that_is_held_is_exit_75(state: Path, run_here: RunHere) -> None:
    damaged(state)
    with holder(state, "T9"):
        done = run_here("sessions", "heal", "main/a")
        assert (done.code, "T9" in done.err) == (75, True)


def test_a_session_that_is_not_there_is_exit_2(state: Path, run_here: RunHere) -> None:
    a_turn(state)
    assert run_here("sessions", "heal", "main/b").code == 2
    assert not transcript(state, "b").exists()


def test_a_file_of_openclaws_is_healed_by_its_name(state: Path, run_here: RunHere) -> None:
    path = damaged(state)
    assert run_here("sessions", "heal", str(path)).out.startswith("healed main/a")
    assert story(state)[:2] == ["turnlock:turn", "hello"]


def test_how_far_it_is_goes_to_stderr_and_never_with_json(state: Path, run_here: RunHere) -> None:
    """One plain line where stderr is no terminal."""
    a_turn(state)
    plain = run_here("doctor", "--deep")
    assert (plain.code, plain.err) == (0, "reading transcripts\n")
    as_json = run_here("doctor", "--deep", "--json")
    assert (as_json.code, as_json.err) == (0, "")
    assert as_json.object["findings"] == []
    assert run_here("doctor").err == ""


def test_deep_finds_in_the_middle_and_is_exit_1_until_it_is_kept(
    state: Path, run_here: RunHere
) -> None:
    path = damaged(state)
    with turnlock.open_store(state).turn("main/a") as turn:
        turn.append(turnlock.user("x" * 70_000))
    assert run_here("doctor").code == 0
    assert run_here("doctor", "--deep").code == 1
    assert run_here("doctor", "--deep", "--fix").code == 0
    assert Path(f"{path}.torn").read_bytes() == b'{"cut\n'
    assert run_here("doctor", "--deep").code == 0
