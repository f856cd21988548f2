"""``--store URL``: the commands, and gateways, on a database."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.cli.running import Done, a_message, errors_of, line_of, run, running
from tests.helpers import eventually, kinds
from tests.postgres.fixtures import TestDatabase
from tests.postgres.server import Server
from turnlock.cli import frame
from turnlock.store import Store

pytestmark = [pytest.mark.postgres, pytest.mark.processes]

Command = Callable[..., Done]


@pytest.fixture
def command(
    postgres: TestDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs a command on the test's database, in this process, where it starts at once."""

    def run(*arguments: str, store: str = postgres.url) -> Done:
        code = frame.run([*arguments, "--store", store])
        return Done(code, *capsys.readouterr())

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNLOCK_STATE_DIR", str(tmp_path))
        patch.setattr("turnlock.cli.frame.log_errors_only", lambda: None)
        yield run


@pytest.fixture
def store(postgres: TestDatabase) -> Iterator[Store]:
    with Store(postgres.backend(), location="test") as store:
        yield store


def test_append_sessions_read_and_locks(
    tmp_path: Path, postgres: TestDatabase, store: Store, command: Command
) -> None:
    done = run(tmp_path, "append", "main/a", "--store", postgres.url, stdin=a_message("hello"))
    assert (done.code, [one["epoch"] for one in done.objects]) == (0, [1])
    listed = command("sessions", "--json").object["sessions"]
    assert [one["session"] for one in listed] == ["main/a"]
    shown = command("sessions", "read", "main/a", "--json").objects
    assert [one["kind"] for one in shown] == ["opening", "message", "end"]
    assert "hello" in command("sessions", "read", "main/a").out
    with store.turn("main/a", turn_id="T1"):
        (lock,) = command("locks", "--json").object["locks"]
    assert (lock["session"], lock["turn_id"], lock["stale"]) == ("main/a", "T1", False)
    # Nothing of it was looked for, or made, in the state directory.
    assert list(tmp_path.iterdir()) == []


def test_release_takes_a_session_from_the_holder_that_it_shows(
    store: Store, command: Command
) -> None:
    release = ("release", "main/a")
    with pytest.raises(turnlock.LeaseRevoked), store.turn("main/a", turn_id="T1") as turn:
        turn.append(turnlock.user("x"))
        asked = command(*release)
        assert (asked.code, "--yes" in asked.err, "T1" in asked.err) == (2, True, True)
        said = command(*release, "--yes", "--json").object
        assert (said["released"], said["marker"], said["fenced"]) == (True, "written", True)
        assert said["holder"]["turn_id"] == "T1"
        turn.check()
    assert kinds(store) == ["turn", "user:x", "operator"]
    assert command(*release, "--yes", "--json").object["released"] is False


def test_exec_holds_the_session(tmp_path: Path, postgres: TestDatabase, store: Store) -> None:
    done = run(tmp_path, "exec", "main/a", "--store", postgres.url, "--", "sh", "-c", "exit 3")
    assert done.code == 3
    assert kinds(store) == ["turn", "error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sessions", "read", "main/nobody"), "there is no session 'main/nobody'"),
        (("sessions", "read", "nobody"), "is no session key"),
        (("sessions", "heal", "main/a"), "no such option"),
    ],
)
def test_a_mistake_is_said_in_a_line(
    command: Command, arguments: tuple[str, ...], said: str
) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert said in done.err.lower()


def test_what_is_no_url_of_a_database_is_refused(command: Command) -> None:
    done = command("locks", store="mysql://x")
    assert (done.code, "postgresql://" in done.err) == (2, True)


def test_migrate_makes_the_tables(command: Command, postgres_server: Server) -> None:
    url = postgres_server.make_database("by_command")
    try:
        done = command("locks", store=url)
        assert (done.code, "turnlock db migrate" in done.err) == (2, True)
        done = command("gateway", store=url)
        assert (done.code, "turnlock db migrate" in done.err) == (1, True)
        assert "applied 0001" in command("db", "migrate", store=url).out
        assert "nothing to do" in command("db", "migrate", store=url).out
        assert command("locks", store=url).code == 0
    finally:
        postgres_server.drop("by_command")


def test_migrate_without_a_store_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["db", "migrate"]) == 2
    assert "--store" in capsys.readouterr().err


# Gateways


class Asked:
    """A gateway process, and how to ask it something."""

    def __init__(self, url: str, state: Path) -> None:
        self.url = url
        self.token = (state / "token").read_text().strip()

    def chat(self, text: str, session: str = "main/a") -> str:
        body = {"model": "main", "messages": [{"role": "user", "content": text}]}
        answer = self.ask("/v1/chat/completions", body, {"X-Turnlock-Session": session})
        return str(answer["choices"][0]["message"]["content"])

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                **(headers or {}),
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def test_two_gateways_serve_one_session(
    tmp_path: Path, postgres: TestDatabase, store: Store
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    serve = ("gateway", "--port", "0", "--store", postgres.url)
    with running(one, *serve) as first, running(other, *serve) as second:
        gateways = [Asked(line_of(first), one), Asked(line_of(second), other)]
        for number in range(4):
            assert gateways[number % 2].chat(f"message {number}")
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            errors_of(process)
    said = [kind for kind in kinds(store) if kind.startswith("user:")]
    assert said == [f"user:message {number}" for number in range(4)]
    assert kinds(store).count("end") == 4
    # A gateway keeps nothing of a session beside the database.
    assert not (one / "agents").exists()


def test_a_gateway_marks_what_another_has_left(
    tmp_path: Path, postgres: TestDatabase, store: Store
) -> None:
    """Nobody asks for the session, and its turn has its marker all the same."""
    with running(tmp_path, "gateway", "--port", "0", "--store", postgres.url) as process:
        line_of(process)
        backend = postgres.backend()
        found = backend.take(turnlock.session.parse_key("main/left"), _request())
        postgres.execute("UPDATE turnlock.session SET lease_until = turnlock.clock()")
        assert found is not None
        eventually(lambda: kinds(store, "main/left") == ["turn", "interrupted"])
        eventually(lambda: store.locks() == [])


def _request() -> Any:
    from turnlock.backends import TakeRequest

    return TakeRequest("T1", 300.0)
