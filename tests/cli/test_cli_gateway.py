"""Commands beside a gateway: they ask it what it holds, and change nothing behind its back."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

import turnlock
from tests.cli.conftest import RunHere
from tests.cli.running import Done, line_of, marker, run, running
from tests.doctor.planting import bytes_of, claim_of, everything, facts, gone_pid, lock, make_unread
from tests.gateway.serving import Served, ask, config_file, failure, process
from tests.helpers import Child, child, eventually, holder
from turnlock.cli.knowledge import knowledge_of
from turnlock.doctor.condition import Condition, Stage
from turnlock.doctor.live import (
    AlreadyServed,
    GatewayUnreachable,
    Refused,
    gateway_of,
    refuse_second,
)
from turnlock.gateway.owning import Ownership, own
from turnlock.session import SessionKey

pytestmark = pytest.mark.processes

SLOW = "first_token = 30\nidle = 30\nturn = 60\n"


class Asking:
    """A message to main/a that is on its way."""

    def __init__(self, gateway: Served, text: str) -> None:
        self._reply: Future[str] = Future()
        self._gateway = gateway
        threading.Thread(target=lambda: asyncio.run(self._ask(text)), daemon=True).start()

    def reply(self) -> str:
        return self._reply.result(20)

    async def _ask(self, text: str) -> None:
        try:
            async with self._gateway.client(max_retries=0, timeout=60) as client:
                self._reply.set_result(await ask(client, text))
        except openai.OpenAIError as error:
            self._reply.set_exception(error)


class Hung:
    """A gateway in a process of its own, with a turn on main/a that hangs in its model."""

    def __init__(self, gateway: Served, process: Child) -> None:
        self.gateway = gateway
        self.process = process
        self.state = gateway.state
        self.ended = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._hang()), daemon=True).start()
        eventually(lambda: gateway.claim().exists() and len(gateway.said()) == 1)

    async def _hang(self) -> None:
        async with self.gateway.client(max_retries=0, timeout=60) as client:
            await failure(client, "/hang")
        self.ended.set()

    def ask_in_thread(self, text: str) -> Asking:
        return Asking(self.gateway, text)

    def lock(self) -> dict[str, Any]:
        (one,) = self.run("locks", "--json").object["locks"]
        assert isinstance(one, dict)
        return one

    @property
    def turn_id(self) -> str:
        turn = json.loads(self.gateway.claim().read_text())["turnId"]
        assert isinstance(turn, str)
        return turn

    def run(self, *arguments: str) -> Done:
        return run(self.state, *arguments)


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Hung]:
    with process(tmp_path, limits=SLOW) as (gateway, started):
        yield Hung(gateway, started)


def test_what_another_process_holds_is_not_the_gateways_to_release(
    tmp_path: Path,
) -> None:
    with process(tmp_path, limits=SLOW) as (gateway, started), holder(gateway.state) as other:
        started.stop()
        done = run(gateway.state, "release", "main/a", "--yes", "--json")
        assert (done.code, done.object["holder"]["pid"]) == (0, other.pid)


def test_sessions_are_listed_and_read_beside_a_gateway(hung: Hung) -> None:
    (one,) = hung.run("sessions", "--json").object["sessions"]
    assert one["session"] == "main/a"
    assert "/hang" in hung.run("sessions", "read", "main/a").out


# What it says, and what becomes of it


class Answers:
    """A gateway that is this process: it listens, and says what a test has it say."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.heard: list[tuple[str, str, Any]] = []
        self.says: dict[str, tuple[int, Any]] = {"/healthz": (200, {"status": "ok"})}

    def answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            method, path, _ = file.readline().decode().split()
            length = 0
            while (line := file.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            body = json.loads(file.read(length)) if length else None
        self.heard.append((method, path, body))
        status, said = self.says.get(path, (404, {"error": {"code": "unknown_url"}}))
        content = json.dumps(said).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        connection.sendall(head + content)

    def knows(self, **more: Any) -> None:
        """Of its one lock."""
        (record,) = turnlock.open_store(self.state).locks()
        self.says["/locks"] = (200, {"locks": [record._asdict() | more]})


RELEASE = "/sessions/main/a/release"


@pytest.fixture
def answers(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """A gateway that is this process, and holds main/a as turn T1."""
    monkeypatch.setenv("TURNLOCK_TOKEN", "secret")
    made = Answers(state)
    store = turnlock.open_store(state)
    with listening(made.answer) as url, written(state, url), store.turn("main/a", turn_id="T1"):
        yield made


def test_phase_progress_and_waiters_are_shown_as_the_gateway_tells_them(
    answers: Answers, run_here: RunHere
) -> None:
    live = {"phase": "model", "max_stall_seconds": 60.0, "progress_age_seconds": 42.0, "waiters": 3}
    answers.knows(**live, ours=True)
    for command in ("locks", "doctor"):
        (one,) = run_here(command, "--json").object["locks"]
        assert {name: one[name] for name in live} == live
        shown = run_here(command).out
        assert "phase model, progress 42 s ago (stall limit 60 s), 3 waiting" in shown
    shown = run_here("release", "main/a").out
    assert [line.split(None, 1) for line in shown.splitlines() if "  p" in line[:4]] == [
        ["phase", "model"],
        ["progress", "42 s ago (stall limit 60 s)"],
    ]
    assert "  waiting  3" in shown


@pytest.mark.parametrize(("progress", "shown"), [(30.0, 20.0), (4.0, 0.0)])
def test_ages_beside_each_other_are_of_one_moment(
    answers: Answers, progress: float, shown: float
) -> None:
    """The gateway is asked after the look at the locks: here as if ten seconds later."""
    answers.knows(age_seconds=30.0, progress_age_seconds=progress)
    root = str(answers.state)
    (held,) = turnlock.open_store(root).locks()
    known = knowledge_of(root, [held._replace(age_seconds=20.0)], gateway_of(root))
    assert known[held.path]["progress_age_seconds"] == shown


def test_what_it_says_of_another_turn_is_not_shown(answers: Answers, run_here: RunHere) -> None:
    answers.knows(turn_id="T0", phase="model")
    (one,) = run_here("locks", "--json").object["locks"]
    assert "phase" not in one


@pytest.mark.parametrize(
    "live",
    [{"phase": 7}, {"progress_age_seconds": "x"}, {"waiters": {}}, {"phase": "\x1b[2J"}],
    ids=str,
)
def test_odd_facts_stop_nobody(
    answers: Answers, run_here: RunHere, live: dict[str, object]
) -> None:
    answers.knows(**live)
    done = run_here("locks")
    assert (done.code, "\x1b" in done.out) == (0, False)
    assert run_here("release", "main/a").code == 2


def fate_of_t1(**more: Any) -> dict[str, Any]:
    fate = {"session": "main/a", "released": True, "holder": {}, "fenced": True}
    return fate | {"process": "alive", "marker": "written"} | more


def test_release_is_asked_of_the_gateway_for_the_turn_that_was_shown(
    answers: Answers, run_here: RunHere
) -> None:
    answers.says[RELEASE] = (200, fate_of_t1(zombie=True))
    done = run_here("release", "main/a", "--yes")
    assert answers.heard[-1] == ("POST", RELEASE, {"turn_id": "T1", "reason": "operator"})
    assert done.code == 0
    assert "its turn was cancelled and is fenced" in done.out
    assert f"the gateway, process {os.getpid()}, goes on serving" in done.out
    assert "as a zombie" in done.out
    assert f"kill {os.getpid()}" not in done.out
    assert run_here("release", "main/a", "--yes", "--json").object == fate_of_t1(zombie=True)
    # It was the gateway's to do, and this one did nothing.
    assert len(turnlock.open_store(answers.state).locks()) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "turn_changed", "NotReleased"),
        (500, "internal_error", "Refused"),
        (401, "", "Refused"),
    ],
)
def test_what_the_gateway_refuses_is_not_done_behind_its_back(
    answers: Answers, run_here: RunHere, status: int, code: str, kind: str
) -> None:
    answers.says[RELEASE] = (status, {"error": {"code": code, "message": "no"}})
    done = run_here("release", "main/a", "--yes", "--json")
    assert (done.code, done.object["error"]["type"]) == (1, kind)
    assert ("TURNLOCK_TOKEN" in done.object["error"]["message"]) == (status == 401)
    assert len(turnlock.open_store(answers.state).locks()) == 1


@pytest.mark.parametrize("token", ["t\u0151ken", "to\nken", "two words"])
@pytest.mark.parametrize("where", ["variable", "file"])
def test_a_token_that_no_header_carries_is_named_and_nothing_is_sent(
    answers: Answers,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    where: str,
) -> None:
    named = "$TURNLOCK_TOKEN"
    if where == "variable":
        monkeypatch.setenv("TURNLOCK_TOKEN", token)
    else:
        monkeypatch.delenv("TURNLOCK_TOKEN")
        named = str(answers.state / "token")
        Path(named).write_text(token)
    done = run_here("release", "main/a", "--yes", "--json")
    error = done.object["error"]
    assert (done.code, error["type"], error["path"]) == (2, "ConfigError", named)
    assert token not in error["message"]
    assert ("POST", RELEASE) not in [one[:2] for one in answers.heard]
    assert len(turnlock.open_store(answers.state).locks()) == 1
    # What shows more where it can goes without.
    assert [one["turn_id"] for one in run_here("locks", "--json").object["locks"]] == ["T1"]


def test_a_gateway_without_that_route_is_fenced_as_any_holder_but_never_named_to_be_killed(
    state: Path, run_here: RunHere
) -> None:
    with (
        holder(state) as other,
        listening(Answers(state).answer) as url,
        written(state, url, other.pid),
    ):
        done = run_here("release", "main/a", "--yes")
        assert done.code == 0, done.err
        assert f"the gateway, process {other.pid}, goes on serving" in done.out
        assert f"kill {other.pid}" not in done.out
        assert "its error marker was written" in done.out
        assert marker(state)["reason"] == "operator"


def test_a_session_that_became_free_meanwhile_is_free(answers: Answers, run_here: RunHere) -> None:
    answers.says[RELEASE] = (200, fate_of_t1(released=False))
    assert "is free: nobody holds it" in run_here("release", "main/a", "--yes").out


@pytest.mark.parametrize("condition", ["silent", "blocked"])
def test_of_a_gateway_that_falls_silent_in_the_deed_nobody_says_that_nothing_was_done(
    answers: Answers, run_here: RunHere, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    asked = threading.Event()

    def answer(connection: socket.socket) -> None:
        if b"POST" in connection.recv(65536):
            asked.set()
        elif condition == "silent" or not asked.is_set():
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    monkeypatch.setattr(answers, "answer", None)
    with listening(answer) as url, written(answers.state, url):
        done = run_here("release", "main/a", "--yes", "--json")
    error = done.object["error"]
    assert (done.code, error["type"], error["condition"]) == (69, "GatewayUnreachable", condition)
    assert error["may_follow"] is True
    assert "whether session 'main/a' was released is not known" in error["message"]
    assert len(turnlock.open_store(answers.state).locks()) == 1


# The same, of a real gateway


def test_the_gateway_tells_what_only_it_knows(hung: Hung) -> None:
    waiting = [hung.ask_in_thread(text) for text in ("b", "c")]
    eventually(lambda: hung.lock()["waiters"] == 2)
    lock = hung.lock()
    assert (lock["phase"], lock["max_stall_seconds"]) == ("model", None)
    assert lock["progress_age_seconds"] >= 0
    assert ", 2 waiting" in hung.run("locks").out
    shown = hung.run("release", "main/a").out
    assert "  waiting  2" in shown
    assert "  phase    model" in shown
    assert hung.run("release", "main/a", "--yes").code == 0
    assert [one.reply().rpartition(": ")[2] for one in waiting] == ["b", "c"]


def test_a_hung_turn_is_released_and_the_next_message_answered(hung: Hung) -> None:
    """Its holder told, its session free, its history kept, and the gateway goes on."""
    turn = hung.turn_id
    second = hung.ask_in_thread("second")
    done = hung.run("release", "main/a", "--yes", "--json")
    assert done.code == 0, done.err
    fate = done.object
    assert (fate["released"], fate["fenced"], fate["process"]) == (True, True, "alive")
    assert (fate["marker"], fate["zombie"]) == ("written", False)
    assert fate["holder"]["turn_id"] == turn
    assert hung.ended.wait(20)
    assert second.reply() == "practice reply 2 to: second"
    assert hung.gateway.said() == [
        ("user", "/hang"),
        ("user", "second"),
        ("assistant", "practice reply 2 to: second"),
    ]
    (found,) = hung.gateway.markers()
    assert (found["turnId"], found["reason"], found["phase"]) == (turn, "operator", "model")
    assert hung.process.process.poll() is None
    assert "is free: nobody holds it" in hung.run("release", "main/a", "--yes").out


def test_release_says_in_words_what_became_of_it(hung: Hung) -> None:
    done = hung.run("release", "main/a", "--yes")
    assert done.code == 0, done.err
    assert "its turn was cancelled and is fenced" in done.out
    assert f"the gateway, process {hung.process.pid}, goes on serving" in done.out
    assert "its error marker was written; the history is kept" in done.out
    assert "zombie" not in done.out


def test_a_turn_that_is_over_is_not_mistaken_for_the_one_that_holds(hung: Hung) -> None:
    """The answer to 'take it?' is about the turn that was shown."""
    found = gateway_of(str(hung.state))
    assert found is not None
    with pytest.raises(Refused) as caught:
        found.release(SessionKey("main", "a"), "some-other-turn")
    assert (caught.value.status, caught.value.code) == (409, "turn_changed")
    assert not hung.ended.is_set()
    assert hung.gateway.claim().exists()


# Wedged


def test_what_a_stopped_gateway_holds_is_not_taken_behind_its_back(hung: Hung) -> None:
    hung.process.stop()
    paths = everything(hung.state)
    make_unread(paths)
    before = facts(paths)
    for arguments in (["--yes"], []):
        done = hung.run("release", "main/a", *arguments)
        assert done.code == 69
        assert f"process {hung.process.pid} at {hung.gateway.url}, is stopped" in done.err
        assert f"kill -CONT {hung.process.pid}" in done.err
    told = hung.run("release", "main/a", "--yes", "--json")
    error = told.object["error"]
    assert (told.code, error["type"]) == (69, "GatewayUnreachable")
    assert (error["condition"], error["pid"]) == ("stopped", hung.process.pid)
    # In this order: listing a directory changes its access time.
    assert facts(paths) == before
    assert everything(hung.state) == paths
    hung.process.go_on()
    assert hung.run("release", "main/a", "--yes").code == 0
    assert hung.ended.wait(10)


def test_that_somebody_removed_its_files_hides_no_gateway(hung: Hung) -> None:
    hung.process.stop()
    (hung.state / "gateway.json").unlink()
    (hung.state / "gateway.lock").unlink()
    done = hung.run("release", "main/a", "--yes", "--json")
    error = done.object["error"]
    assert (done.code, error["condition"], error["pid"]) == (69, "stopped", hung.process.pid)


def test_who_does_not_know_of_the_gateway_would_take_it(
    hung: Hung, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung.process.stop()
    monkeypatch.setattr("turnlock.cli.release.gateway_of", lambda root: None)
    assert run_here("release", "main/a", "--yes").code == 0
    assert [marker["reason"] for marker in hung.gateway.markers()] == ["operator"]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_second_gateway_is_refused_and_changes_nothing(hung: Hung, stopped: bool) -> None:
    if stopped:
        hung.process.stop()
    before = bytes_of(hung.state)
    # Not with a port that is in use: that is no reason yet, and would be a worse one.
    port = hung.gateway.url.rpartition(":")[2]
    done = hung.run("gateway", "--port", port)
    assert (done.code, done.out) == (75, "")
    (line,) = done.err.splitlines()
    named = f"process {hung.process.pid} at {hung.gateway.url}"
    assert f"is served already: the gateway there, {named}" in line
    remedy = "kill -CONT" if stopped else "end it first: kill"
    assert f"{remedy} {hung.process.pid}" in line
    assert bytes_of(hung.state) == before


def test_what_is_refused_at_once_is_refused_by_the_lock_as_well(
    hung: Hung, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The early look only saves the time to load a gateway; two may pass it together."""
    monkeypatch.setattr("turnlock.cli.gateway.refuse_second", lambda root, patience: None)
    done = run_here("gateway", "--port", "0")
    assert (done.code, f"the gateway there, process {hung.process.pid}" in done.err) == (75, True)


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("condition", [Condition.BLOCKED, Condition.CLOSED])
def test_a_wedged_gateway_refuses_at_once_unless_it_dies_while_it_is_asked(
    state: Path, monkeypatch: pytest.MonkeyPatch, condition: Condition, dies: bool
) -> None:
    """The kernel takes the connection, and nobody answers it; or it refuses."""
    state.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if condition is Condition.CLOSED:
            listener.shutdown(socket.SHUT_RDWR)
        owned = own(str(state))
        owned.say(Stage.SERVING, f"http://127.0.0.1:{listener.getsockname()[1]}")
        if dies:
            monkeypatch.setattr("turnlock.doctor.live._asked", lambda *_: _gone(owned, condition))
            refuse_second(str(state), 0.1)
        else:
            with pytest.raises(AlreadyServed) as raised:
                refuse_second(str(state), 0.1)
            assert raised.value.condition == condition.value
        owned.close()


def _gone(owned: Ownership, condition: Condition) -> Condition:
    owned.close()
    return condition


def test_in_doubt_the_early_look_says_nothing(state: Path) -> None:
    """The files are those of a program that takes no lock, and nobody answers."""
    state.mkdir()
    with listening() as url:
        pass
    (state / "gateway.json").write_text(json.dumps({"pid": os.getpid(), "url": url}))
    refuse_second(str(state), 0.3)


def test_the_next_gateway_follows_a_wedged_one_at_once_when_that_is_killed(hung: Hung) -> None:
    hung.process.stop()
    hung.process.process.kill()
    with running(hung.state, "gateway", "--port", "0") as second:
        assert line_of(second).startswith("http://")
        (one,) = hung.gateway.markers()
        assert one["reason"] == "interrupted"


def test_a_gateway_that_shuts_down_is_said_to_and_not_gone_behind(hung: Hung) -> None:
    hung.process.process.terminate()
    eventually(lambda: json.loads((hung.state / "gateway.lock").read_text())["stage"] == "draining")
    done = hung.run("gateway", "--port", "0")
    assert (done.code, "is shutting down; wait until it is gone" in done.err) == (75, True)
    (found,) = hung.run("doctor", "--json").object["findings"]
    assert (found["check"], "it is draining" in found["message"]) == ("gateway-running", True)


def test_a_gateway_that_drains_still_says_what_it_holds_and_releases_it(hung: Hung) -> None:
    hung.process.process.terminate()
    eventually(lambda: json.loads((hung.state / "gateway.lock").read_text())["stage"] == "draining")
    assert hung.lock()["phase"] == "model"
    told = hung.run("release", "main/a", "--yes", "--json")
    assert (told.code, told.object["marker"]) == (0, "written")
    (one,) = hung.gateway.markers()
    assert one["reason"] == "operator"


@pytest.mark.parametrize("heard", [False, True])
def test_of_one_that_drains_and_gives_no_answer_only_a_closed_port_says_that_nothing_was_done(
    state: Path, heard: bool
) -> None:
    state.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        owned = own(str(state))
        owned.say(Stage.DRAINING, f"http://127.0.0.1:{listener.getsockname()[1]}")
        gateway = gateway_of(str(state))
        assert gateway is not None
        assert gateway.condition is Condition.DRAINING
        if heard:
            threading.Thread(target=lambda: listener.accept()[0].close()).start()
        else:
            listener.close()
        with pytest.raises(GatewayUnreachable) as raised:
            gateway.release(SessionKey("main", "a"), "t")
        owned.close()
    assert raised.value.condition == ("silent" if heard else "draining")


def test_doctor_says_that_the_gateway_is_stopped(hung: Hung) -> None:
    hung.process.stop()
    done = hung.run("doctor", "--json")
    (found,) = done.object["findings"]
    assert (done.code, found["check"], found["severity"]) == (1, "gateway-wedged", "error")
    assert "is stopped" in found["message"]
    assert f"kill -CONT {hung.process.pid}" in found["hint"]


def test_locks_say_that_the_gateway_is_stopped_and_list_what_the_files_say(hung: Hung) -> None:
    hung.process.stop()
    done = hung.run("locks")
    assert (done.code, "main/a" in done.out) == (0, True)
    assert f"process {hung.process.pid} at {hung.gateway.url}, is stopped" in done.err
    assert len(done.err.splitlines()) == 1
    (one,) = hung.run("locks", "--json").object["locks"]
    assert "phase" not in one


@pytest.mark.parametrize("stopped", [True, False])
def test_doctor_fix_touches_nothing_of_the_gateways_and_removes_the_dead(
    hung: Hung, stopped: bool
) -> None:
    if stopped:
        hung.process.stop()
    dead = lock(hung.state, claim_of(gone_pid()), name="dead")
    mine = [hung.gateway.claim(), hung.state / "agents/main/sessions/a.jsonl"]
    before = facts(mine)
    report = hung.run("doctor", "--fix", "--json").object
    assert report["summary"]["removed"] == 1
    assert not dead.exists()
    after = facts(mine)
    # Doctor reads, which is no change; --fix may change an access time.
    assert {path: one[:7] for path, one in after.items()} == {
        path: one[:7] for path, one in before.items()
    }
    assert not hung.ended.is_set()


def test_doctor_without_fix_changes_nothing_beside_a_gateway(hung: Hung) -> None:
    paths = everything(hung.state)
    make_unread(paths)
    before = facts(paths)
    assert hung.run("doctor").code == 0
    assert hung.run("locks").code == 0
    assert facts(paths) == before


BLOCKED = """
    import asyncio, time
    from turnlock.config import load_config
    from turnlock.gateway import Agent, Stop, serve

    class Blocking:
        provider, model, api = "scripted", "script", "openai-completions"

        async def stream(self, messages):
            print("blocked", flush=True)
            time.sleep(120)
            yield None

        async def aclose(self):
            pass

    def announce(url):
        print(url, flush=True)

    agents = {"main": Agent("main", Blocking(), "")}
    config = load_config(sys.argv[2])
    asyncio.run(serve(config, sys.argv[1], announce, stop=Stop(), agents=agents))
"""


def test_a_gateway_with_a_blocked_loop_is_told_from_a_stopped_one(tmp_path: Path) -> None:
    with child(BLOCKED, tmp_path / "state", config_file(tmp_path, limits=SLOW)) as started:
        gateway = Served(started.line(), tmp_path / "state")
        hung = Hung(gateway, started)
        started.expect("blocked")
        before = bytes_of(hung.state)
        done = hung.run("release", "main/a", "--yes", "--json")
        assert (done.code, done.object["error"]["condition"]) == (69, "blocked")
        second = hung.run("gateway", "--port", "0")
        assert (second.code, "its event loop is blocked" in second.err) == (75, True)
        (found,) = hung.run("doctor", "--json").object["findings"]
        assert (found["check"], "is blocked" in found["message"]) == ("gateway-wedged", True)
        assert bytes_of(hung.state) == before


# The conditions, told apart


@contextmanager
def written(state: Path, url: str, pid: int | None = None) -> Iterator[None]:
    """A gateway.json of this process, or another."""
    state.mkdir(exist_ok=True)
    text = json.dumps({"pid": os.getpid() if pid is None else pid, "url": url})
    (state / "gateway.json").write_text(text)
    yield


@contextmanager
def listening(answer: Callable[[socket.socket], None] | None = None) -> Iterator[str]:
    """The url of a port that is open; each connection is answered, or left alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while answer is not None:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def condition(state: Path, url: str) -> Condition | None:
    with written(state, url):
        found = gateway_of(str(state))
    return None if found is None else found.condition


def test_a_port_that_refuses_is_closed(state: Path) -> None:
    with listening() as url:
        pass
    assert condition(state, url) is Condition.CLOSED


def test_a_port_that_never_answers_is_blocked(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnlock.doctor.live._PATIENCE", 0.05)
    with listening() as url:
        assert condition(state, url) is Condition.BLOCKED


def test_a_gateway_that_is_gone_is_none(state: Path) -> None:
    assert gateway_of(str(state)) is None
    with written(state, "http://127.0.0.1:1", gone_pid()):
        assert gateway_of(str(state)) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": "1"}', '{"pid": true, "url": "x"}'])
def test_a_hostile_gateway_file_is_none(state: Path, content: str) -> None:
    state.mkdir()
    (state / "gateway.json").write_text(content)
    assert gateway_of(str(state)) is None


@pytest.mark.parametrize(
    "url", ["", "ftp://127.0.0.1:1", "http://", "http://[::", "http://127.0.0.1:x", "file:///etc"]
)
def test_a_url_that_is_none_is_not_followed(state: Path, url: str) -> None:
    assert condition(state, url) in (Condition.BLOCKED, Condition.CLOSED)


def test_what_is_no_json_or_too_odd_says_nothing_of_the_locks(state: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]")

    with listening(answer) as url, written(state, url):
        found = gateway_of(str(state))
        assert found is not None
        assert found.answers
        assert found.locks() == {}


@pytest.mark.parametrize("said", [b"[" * 100_000, b"{", b"[]", b"\xff", b"nonsense"])
def test_an_answer_that_cannot_be_read_says_nothing(state: Path, said: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n".encode()
        connection.sendall(b"bye" if said == b"nonsense" else head + said)

    with listening(answer) as url, written(state, url):
        found = gateway_of(str(state))
        assert found is not None
        assert found.locks() == {}


def test_the_token_is_sent_to_this_host_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    monkeypatch.setenv("TURNLOCK_TOKEN", "secret")
    with listening(answer) as url, written(state, url):
        found = gateway_of(str(state))
        assert found is not None
        found.locks()
        assert b"Bearer secret" in heard[-1]
        # Seen as from elsewhere, it hears nothing at all.
        count = len(heard)
        monkeypatch.setattr("socket.socket.getsockname", lambda self: ("192.0.2.1", 1))
        assert found.locks() == {}
        assert [one for one in heard[count:] if one] == []
