"""The service of docs/howto/in-a-service.md, as it stands there, with the real FastAPI."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.docs.pages import ROOT, blocks
from tests.helpers import eventually
from turnlock.practice import PracticeServer

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient


@pytest.fixture
def model_url() -> Iterator[str]:
    """A practice model on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = PracticeServer()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    yield server.url
    asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def client(tmp_path: Path, model_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    variables = {
        "STATE_DIR": str(tmp_path / "state"),
        "MODEL_URL": model_url,
        "MODEL_API_KEY": "a-secret-key",
        "FIRST_TOKEN": "0.5",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    page = ROOT / "docs/howto/in-a-service.md"
    text = next(block.text for block in blocks("python", page) if "FastAPI(" in block.text)
    names: dict[str, Any] = {"__name__": "service"}
    exec(compile(text, "service.py", "exec"), names)
    with TestClient(names["app"]) as client:
        yield client


def ask(client: TestClient, text: str, name: str = "m1", user: str = "alice") -> Any:
    return client.post(f"/chat/{user}", json={"id": name, "text": text})


def store_of(tmp_path: Path) -> turnlock.Store:
    return turnlock.open_store(tmp_path / "state")


def test_it_answers(client: TestClient) -> None:
    answer = ask(client, "hello")
    assert (answer.status_code, answer.json()["reply"]) == (200, "practice reply 1 to: hello")
    assert ask(client, "and now?", "m2").json()["reply"] == "practice reply 2 to: and now?"


@pytest.mark.parametrize("mode", ["/hang", "/comments"])
def test_a_hung_model_costs_its_limit_and_not_the_session(
    client: TestClient, tmp_path: Path, mode: str
) -> None:
    hung = ask(client, mode)
    assert (hung.status_code, hung.json()["reason"]) == (504, "model-limit")
    assert ask(client, "still there?", "m2").status_code == 200
    with store_of(tmp_path) as store:
        entries = list(store.read("main/alice"))
    assert sum(one.get("customType") == "openclaw:prompt-error" for one in entries) == 1


def test_a_message_that_is_sent_again_is_stored_once(client: TestClient, tmp_path: Path) -> None:
    assert ask(client, "/500").status_code == 502
    assert ask(client, "/500").status_code == 502
    with store_of(tmp_path) as store:
        assert [one["id"] for one in store.read("main/alice") if one["type"] == "message"] == ["m1"]


def test_half_a_reply_is_none(client: TestClient, tmp_path: Path) -> None:
    assert ask(client, "/cut").status_code == 502
    with store_of(tmp_path) as store:
        kinds = [one["type"] for one in store.read("main/alice")]
    assert kinds == ["custom", "message", "custom"]


def test_who_asks_again_is_answered_whatever_was_said_since(client: TestClient) -> None:
    assert ask(client, "/500").status_code == 502
    assert ask(client, "hello", "m2").status_code == 200
    assert ask(client, "/500").status_code == 502


def test_a_busy_session_is_a_409_that_names_its_holder(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The page's wait limit of 10 s, made short for the test.
    turn = turnlock.Store.turn
    monkeypatch.setattr(
        turnlock.Store,
        "turn",
        lambda store, key, **limits: turn(store, key, **limits | {"wait": 0}),
    )
    with store_of(tmp_path) as store, store.turn("main/alice", turn_id="T1"):
        busy = ask(client, "hello")
    assert (busy.status_code, busy.json()["holder"]) == (409, "T1")
    assert busy.headers["Retry-After"] == "5"


def test_users_of_any_name_have_sessions_of_their_own(client: TestClient) -> None:
    assert ask(client, "hello", user="a@b.c").status_code == 200
    assert ask(client, "hello", user="日本").json()["reply"].startswith("practice reply 1")


def test_its_end_leaves_no_lock(client: TestClient, tmp_path: Path) -> None:
    ask(client, "hello")
    client.__exit__(None, None, None)
    assert eventually(lambda: list((tmp_path / "state").rglob("*.lock")) == [])
