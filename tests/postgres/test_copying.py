"""Sessions go from files into a database and back, byte for byte, as often as one likes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import turnlock
from tests.cli.running import Done
from tests.postgres.fixtures import TestDatabase
from turnlock.backends import TakeRequest
from turnlock.cli import frame
from turnlock.copying import Result
from turnlock.session import parse_key
from turnlock.store import Store
from turnlock.transcript.jsonl import encode

pytestmark = pytest.mark.postgres

Command = Callable[..., Done]


@pytest.fixture
def files(state: Path) -> Iterator[Store]:
    with turnlock.open_store(state) as store:
        yield store


@pytest.fixture
def database(postgres: TestDatabase) -> Iterator[Store]:
    with Store(postgres.backend(), location="database") as store:
        yield store


def transcript(state: Path, name: str = "a") -> Path:
    return state / "agents" / "main" / "sessions" / f"{name}.jsonl"


def written(store: Store, name: str = "a", turns: int = 2) -> None:
    for number in range(turns):
        with store.turn(f"main/{name}") as turn:
            turn.append(turnlock.user(f"{number}: é \\ \" ' % \u2028 \x00 \U0001f600"))
            turn.append({"type": "model_change", "deep": [None, 1.5, 2**70]})


def raw(store: Store, name: str = "a") -> list[bytes]:
    return [line.raw for line in store.read_lines(f"main/{name}")]


def test_a_transcript_comes_back_as_the_same_bytes(
    files: Store, database: Store, state: Path, tmp_path: Path
) -> None:
    written(files)
    assert database.copy_from(files, "main/a").result is Result.COPIED
    with turnlock.open_store(tmp_path / "back") as back:
        assert back.copy_from(database, "main/a").result is Result.COPIED
        assert transcript(tmp_path / "back").read_bytes() == transcript(state).read_bytes()
        # And it goes on where it was.
        written(back, turns=1)
        assert [one["epoch"] for one in back.read("main/a")][-1] == 3
    assert database.status("main/a").end == files.status("main/a").end
    assert database.find("main/a", "nobody") is None


def test_what_is_new_is_added_and_nothing_twice(files: Store, database: Store) -> None:
    written(files)
    database.copy_from(files, "main/a")
    assert database.copy_from(files, "main/a").result is Result.SAME
    written(files, turns=1)
    assert database.copy_from(files, "main/a") == ("main/a", Result.COPIED, 4, 0)
    assert raw(database) == raw(files)


def test_a_long_transcript_that_was_cut_short_is_gone_on_with(
    files: Store, database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(files, turns=20)
    monkeypatch.setattr("turnlock.copying._BATCH_BYTES", 1000)
    backend = database._backend
    appended = backend.append
    left = iter(range(3))

    def break_off(*arguments: object) -> None:
        next(left)
        appended(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "append", break_off)
    with pytest.raises(StopIteration):
        database.copy_from(files, "main/a")
    monkeypatch.setattr(backend, "append", appended)
    assert 0 < len(raw(database)) < len(raw(files))
    assert database.copy_from(files, "main/a").result is Result.COPIED
    assert raw(database) == raw(files)


def test_another_session_of_that_name_is_left_alone(files: Store, database: Store) -> None:
    written(files)
    written(database)
    before = raw(database)
    assert database.copy_from(files, "main/a").result is Result.DIFFERS
    assert raw(database) == before


def test_who_is_behind_touches_nothing_of_who_is_ahead(files: Store, database: Store) -> None:
    written(files)
    database.copy_from(files, "main/a")
    written(database, turns=1)
    before = raw(database)
    assert database.copy_from(files, "main/a").result is Result.DIFFERS
    assert raw(database) == before


@pytest.mark.parametrize("held", ["source", "target"])
def test_a_session_that_somebody_holds_is_left_alone(
    files: Store, database: Store, held: str
) -> None:
    written(files)
    key = parse_key("main/a")
    where = files if held == "source" else database
    lease = where._backend.take(key, TakeRequest("T1", 300.0))
    assert database.copy_from(files, "main/a").result is Result.BUSY
    where._backend.release(lease)


def test_a_turn_that_nobody_has_ended_is_left_to_doctor(
    files: Store, database: Store, state: Path
) -> None:
    written(files)
    line = encode({"type": "message", "id": "x", "timestamp": "", "parentId": None, "epoch": 9})
    with transcript(state).open("ab") as file:
        file.write(line)
    assert database.copy_from(files, "main/a").result is Result.UNFINISHED
    assert list(database.sessions()) == []


def test_damaged_lines_go_along_where_they_are_text(
    files: Store, database: Store, state: Path
) -> None:
    written(files)
    whole = transcript(state).read_bytes().splitlines(keepends=True)
    damaged = [whole[0], b'{"type":"cut off\n', b"\xff\xfe\n", b"\0\0\0\n", b"\n", *whole[1:]]
    transcript(state).write_bytes(b"".join(damaged))
    copied = database.copy_from(files, "main/a")
    assert (copied.result, copied.left_out) == (Result.COPIED, 2)
    assert list(database.read("main/a")) == list(files.read("main/a"))
    assert b'{"type":"cut off' in raw(database)
    assert database.copy_from(files, "main/a").result is Result.SAME


def test_ids_that_no_index_could_have_go_along(files: Store, database: Store, state: Path) -> None:
    written(files, turns=1)
    odd = [{"type": "x", "id": identity} for identity in ("a\0b", "\ud800", "x" * 5000, 7)]
    with transcript(state).open("a") as file:
        file.writelines(f"{json.dumps(one)}\n" for one in odd)
    assert database.copy_from(files, "main/a").result is Result.COPIED
    assert raw(database) == raw(files)


@pytest.fixture
def command(
    postgres: TestDatabase, state: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    def run(*arguments: str, directory: Path = state) -> Done:
        code = frame.run([*arguments, "--store", postgres.url, "--state-dir", str(directory)])
        return Done(code, *capsys.readouterr())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnlock.cli.frame.log_errors_only", lambda: None)
        yield run


def test_import_and_export_as_commands(
    files: Store, command: Command, state: Path, tmp_path: Path
) -> None:
    for name in "ab":
        written(files, name)
    done = command("import")
    assert (done.code, done.out.count("copied"), done.out.count("9 lines")) == (0, 2, 2)
    said = command("export", "main/a", "--json", directory=tmp_path / "back").object["sessions"]
    assert said == [{"session": "main/a", "result": "copied", "lines": 9, "left_out": 0}]
    assert transcript(tmp_path / "back").read_bytes() == transcript(state).read_bytes()
    written(files, "a", turns=1)
    command("import")
    with turnlock.open_store(tmp_path / "back") as back:
        written(back, "a", turns=1)
    refused = command("export", directory=tmp_path / "back")
    assert (refused.code, "another session" in refused.out) == (1, True)


def test_an_import_says_what_it_could_not_list(files: Store, command: Command, state: Path) -> None:
    written(files, "a")
    (state / "agents/other").mkdir()
    (state / "agents/other/sessions").symlink_to("sessions")
    done = command("import", "--json")
    assert (done.code, "cannot be listed" in done.err) == (2, True)
    assert [one["session"] for one in done.object["sessions"]] == ["main/a"]
    assert len(done.object["unreadable"]) == 1
    # Nobody asked for them.
    assert command("import", "main/a").code == 0


def test_an_import_from_nowhere_says_so(command: Command, tmp_path: Path) -> None:
    done = command("import", directory=tmp_path / "nowhere")
    assert (done.code, "no such directory" in done.err) == (2, True)
