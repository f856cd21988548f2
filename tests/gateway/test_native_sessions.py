"""Sessions and their transcripts over HTTP: page by page, whole, and whatever the path says."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

import turnlock
from turnlock.gateway.native.transcript import PAGE_BYTES_MAX

from ..helpers import holder
from .raw import chat, exchange, get, line, post, request
from .serving import Scripted, Served, ask, echo, eventually, failure, run, served
from .test_gateway_waiting import PATIENT, Gate, held


async def page(gateway: Served, target: str, **query: object) -> Any:
    answer = await get(gateway, f"{target}?{urlencode(query)}" if query else target)
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.body)


def planted(gateway: Served, name: str, content: bytes) -> Path:
    path = gateway.state / "agents" / "main" / "sessions" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def transcript(name: str) -> str:
    return f"/sessions/main/{name}/transcript"


def written(gateway: Served, name: str, texts: list[str]) -> list[str]:
    """One turn with these messages; ids of all entries of the session."""
    store = turnlock.open_store(gateway.state)
    with store.turn(f"main/{name}") as turn:
        turn.append(*map(turnlock.user, texts))
    return [entry["id"] for entry in store.read(f"main/{name}")]


# The list


def test_sessions_are_listed_page_by_page(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            assert await page(gateway, "/sessions") == {"sessions": [], "next": None}
            for name in ("a", "a+b", "b", "c", "d"):
                await asyncio.to_thread(written, gateway, name, ["x"])
            whole = await page(gateway, "/sessions")
            assert whole["next"] is None
            names = [one["session"] for one in whole["sessions"]]
            assert sorted(names) == ["main/a", "main/a+b", "main/b", "main/c", "main/d"]
            assert set(whole["sessions"][0]) == {"session", "path", "size", "modified"}
            seen: list[str] = []
            query: dict[str, object] = {"limit": 2}
            while query:
                part = await page(gateway, "/sessions", **query)
                assert len(part["sessions"]) <= 2
                seen += [one["session"] for one in part["sessions"]]
                query = {"limit": 2, "after": part["next"]} if part["next"] else {}
            assert seen == names

    run(test())


# One session


def test_a_session_is_shown_with_its_holder_and_who_waits(tmp_path: Path) -> None:
    async def test() -> None:
        gate = Gate()
        async with (
            served(tmp_path, gate.model, limits=PATIENT) as gateway,
            gateway.client() as client,
        ):
            first = await held(gateway, client, gate)
            second = asyncio.create_task(ask(client, "b"))
            shown = await page(gateway, "/sessions/main/a")
            while (shown["waiters"], len(shown["queued"])) != (1, 1):
                shown = await page(gateway, "/sessions/main/a")
            turn = shown["open_turn"]["turn_id"]
            assert (shown["holder"]["turn_id"], shown["holder"]["phase"]) == (turn, "model")
            assert (shown["epoch"], shown["last_ended_turn"]) == (1, None)
            (queued,) = shown["queued"]
            assert queued["turn_id"] not in (turn, None)
            assert queued["client"].startswith("127.0.0.1:")
            assert shown["limits"]["turn"] == 6.0
            gate.opened.set()
            await asyncio.gather(first, second)
            shown = await page(gateway, "/sessions/main/a")
            assert (shown["holder"], shown["queued"], shown["waiters"]) == (None, [], 0)
            last = {"turn_id": queued["turn_id"], "epoch": 2, "reason": None}
            assert (shown["open_turn"], shown["last_ended_turn"]) == (None, last)
            assert shown["size"] == (gateway.claim().with_suffix("")).stat().st_size

    run(test())


def test_how_the_last_turn_failed_is_shown(gateway: Served) -> None:
    store = turnlock.open_store(gateway.state)
    with pytest.raises(ValueError), store.turn("main/failed") as turn:
        turn.append(turnlock.user("x"))
        raise ValueError

    async def test() -> None:
        shown = await page(gateway, "/sessions/main/failed")
        assert shown["last_ended_turn"]["reason"] == "error"

    run(test())


def test_a_session_that_is_held_before_it_has_an_entry_is_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            with holder(gateway.state) as other:
                shown = await page(gateway, "/sessions/main/a")
                assert shown["holder"]["pid"] == other.pid

    run(test())


@pytest.mark.parametrize("target", ["/sessions/main/nobody", transcript("nobody")])
def test_a_session_that_is_not_there_is_not_found(gateway: Served, target: str) -> None:
    async def test() -> None:
        for query in ("", "?after=x", "?after=~0", "?after=~7"):
            answer = await get(gateway, target + (query if "transcript" in target else ""))
            assert (answer.status, answer.error()["code"]) == (404, "session_not_found")
            assert answer.error()["session"] == "main/nobody"
        assert not (gateway.state / "agents/main/sessions/nobody.jsonl").exists()

    run(test())


# The transcript


async def pages(gateway: Served, name: str, limit: int, **query: object) -> list[Any]:
    found = []
    while True:
        found.append(await page(gateway, transcript(name), limit=limit, **query))
        if not found[-1]["more"]:
            return found
        query = {"after": found[-1]["next"]}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_pages_put_together_are_the_transcript(gateway: Served, limit: int) -> None:
    name = f"paged{limit}"
    ids = written(gateway, name, [f"text {number}" for number in range(7)])

    async def test() -> None:
        found = await pages(gateway, name, limit)
        assert [one["id"] for part in found for one in part["entries"]] == ids
        assert all(len(part["entries"]) <= limit for part in found)
        assert found[0]["entries"][0]["kind"] == "opening"
        for number, identity in enumerate(ids):
            behind = await pages(gateway, name, limit, after=identity)
            rest = [one["id"] for part in behind for one in part["entries"]]
            assert rest == ids[number + 1 :]

    run(test())


def test_who_reads_on_from_the_end_sees_what_is_new(gateway: Served) -> None:
    ids = written(gateway, "grows", ["a"])

    async def test() -> None:
        end = await page(gateway, transcript("grows"))
        nothing = await page(gateway, transcript("grows"), after=end["next"])
        assert (nothing["entries"], nothing["more"], nothing["next"]) == ([], False, end["next"])
        more = (await asyncio.to_thread(written, gateway, "grows", ["b"]))[len(ids) :]
        new = await page(gateway, transcript("grows"), after=end["next"])
        assert [one["id"] for one in new["entries"]] == more

    run(test())


def test_damaged_lines_are_told_and_a_fragment_is_left_out(gateway: Served) -> None:
    lines = [
        b'{"type":"session","version":3,"id":"s"}',
        b'{"type":"message","id":"1"}',
        b'{"type":"mess',
        b"",
        b"\x00\x00\x00",
        b'{"type":"message","id":"2","n":1e999}',
        b'{"type":"message","id":"3"}{"type":"message","id":"4"}',
        b'{"type":"message","id":"5"}',
        b'{"type":"message","id":"6"',
    ]
    planted(gateway, "damaged", b"\n".join(lines))

    async def test() -> None:
        for limit in (1, 100):
            found = await pages(gateway, "damaged", limit)
            assert [e["id"] for part in found for e in part["entries"]] == ["1", "5"]
            damaged = [one for part in found for one in part["damaged"]]
            assert [one["bytes"] for one in damaged] == [len(line) for line in lines[2:7]]
            assert damaged[0]["offset"] == len(lines[0]) + len(lines[1]) + 2
        assert damaged[0]["after"] == "1"
        shown = await page(gateway, "/sessions/main/damaged")
        assert shown["torn_bytes"] == len(lines[8])

    run(test())


def test_entries_that_share_a_line_are_read_once_whatever_a_page_holds(gateway: Served) -> None:
    def entry(identity: str) -> bytes:
        at = "2026-01-01T00:00:00.000Z"
        made = {"type": "message", "id": identity, "parentId": None, "timestamp": at}
        return json.dumps(made, separators=(",", ":")).encode()

    glued = entry("2") + entry("3")
    lines = [b'{"type":"session","version":3,"id":"s"}', entry("1"), glued, entry("4")]
    path = planted(gateway, "glued", b"\n".join(lines))
    known = ["1", "2", "3", "4"]

    async def test() -> None:
        for limit in (1, 2, 100):
            found = await pages(gateway, "glued", limit)
            assert [e["id"] for part in found for e in part["entries"]] == known
        for number, identity in enumerate(known):
            rest = await page(gateway, transcript("glued"), after=identity)
            assert [e["id"] for e in rest["entries"]] == known[number + 1 :]
        # The last one lacks its newline; the next writer begins with it.
        end = (await page(gateway, transcript("glued")))["next"]
        assert (await page(gateway, transcript("glued"), after=end))["entries"] == []
        with path.open("ab") as file:
            file.write(b"\n" + entry("5") + b"\n")
        rest = await page(gateway, transcript("glued"), after=end)
        assert [e["id"] for e in rest["entries"]] == ["5"]

    run(test())


def test_an_answer_is_json_that_any_reader_and_any_terminal_takes(gateway: Served) -> None:
    text = "\x1b]8;;http://x\x07 \u202e \x9b31m \x7f \u2028 \U0001f600 \\ud800"
    written(gateway, "escapes", [text])
    path = planted(gateway, "half", b'{"type":"message","id":"1","x":"\\ud800","y":"\\\\ud800"}\n')

    async def test() -> None:
        answer = await get(gateway, transcript("escapes"))
        assert answer.body.isascii()
        assert not any(byte < 0x20 or byte == 0x7F for byte in answer.body)
        shown = json.loads(answer.body)["entries"][1]
        assert shown["message"]["content"][0]["text"] == text
        half = await get(gateway, transcript(path.stem))
        (entry,) = json.loads(half.body)["entries"]
        assert (entry["x"], entry["y"]) == ("\ufffd", "\\ud800")

    run(test())


def test_a_page_is_bounded_and_has_one_entry_at_least(gateway: Served) -> None:
    big = json.dumps({"type": "message", "id": "big", "x": "y" * (PAGE_BYTES_MAX + 1)})
    small = [json.dumps({"type": "message", "id": f"s{n}", "x": "y" * 999_999}) for n in range(6)]
    planted(gateway, "big", "\n".join([*small, big, *small, ""]).encode())

    async def test() -> None:
        found = await pages(gateway, "big", 1000)
        assert [len(part["entries"]) for part in found] == [4, 2, 1, 4, 2]

    run(test())


def test_a_place_that_begins_no_line_is_none(gateway: Served) -> None:
    written(gateway, "places", ["a"])
    path = gateway.state / "agents/main/sessions/places.jsonl"
    size = path.stat().st_size

    async def test() -> None:
        for place in (1, 5, size - 1, size + 1, 10**17):
            answer = await get(gateway, f"{transcript('places')}?after=~{place}")
            assert (answer.status, answer.error()["code"]) == (404, "entry_not_found"), place
        for place in (0, size):
            assert (await get(gateway, f"{transcript('places')}?after=~{place}")).status == 200

    run(test())


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=1e2", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=", "after"),
        ("after=" + "x" * 300, "after"),
        ("limt=5", "limt"),
        ("token=x", "token"),
        ("&".join(f"a{n}=1" for n in range(30)), None),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(
    gateway: Served, query: str, param: str | None
) -> None:
    async def test() -> None:
        for target in ("/sessions", transcript("a")):
            answer = await get(gateway, f"{target}?{query}")
            assert (answer.status, answer.error()["code"]) == (400, "invalid_request")
            assert answer.error()["param"] == param
            assert len(answer.body) < 1000

    run(test())


# Paths

HOSTILE = [
    "..%2fb",
    "%2e%2e",
    "..",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%252f",
    "a%00b",
    "%0a",
    "%e2%80%ae",
    "x" * 300,
    "%c0%ae%c0%ae",
    "%ff",
    "%ed%a0%80",
    "%zz",
    "a%5cb",
    "-rf",
    ".hidden",
    "a%20b",
    "%1b%5b2J",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_part_of_a_path_is_refused_by_name(gateway: Served, part: str) -> None:
    targets = [
        ("GET", f"/sessions/main/{part}", "name"),
        ("GET", f"/sessions/{part}/a", "agent"),
        ("GET", f"/sessions/main/{part}/transcript", "name"),
        ("POST", f"/sessions/main/{part}/release", "name"),
    ]

    async def test() -> None:
        before = sorted(gateway.state.parent.rglob("*"))
        for method, target, wrong in targets:
            data = request(gateway, target, method=method, body=b'{"turn_id":"x"}')
            answer = await exchange(gateway, data)
            assert (answer.status, answer.error()["code"]) == (400, "invalid_session_key")
            assert answer.error()["param"] == wrong
            assert answer.body.isascii()
        assert sorted(gateway.state.parent.rglob("*")) == before

    run(test())


def test_what_is_no_part_of_a_path_ends_nowhere(gateway: Served) -> None:
    async def test() -> None:
        for target in (
            "/sessions/",
            "/sessions/main",
            "/sessions/main/",
            "/sessions//a",
            "/sessions/main/a/",
            "/sessions/main/a/transcript/",
            "/sessions/main%2fa",
            "/sessions/main/a%2ftranscript/x/y",
            "/%73essions",
        ):
            answer = await get(gateway, target)
            assert (answer.status, answer.error()["code"]) == (404, "unknown_url"), target
        # One part with a slash in it, and not two.
        answer = await get(gateway, "/sessions/main/a%2ftranscript")
        assert (answer.status, answer.error()["param"]) == (400, "name")

    run(test())


def test_every_name_that_a_session_can_have_is_a_path(gateway: Served) -> None:
    name = turnlock.session_key("main", "a/b ü@c:+=").partition("/")[2]
    written(gateway, name, ["x"])

    async def test() -> None:
        for sent in (name, quote(name, safe="")):
            assert (await page(gateway, f"/sessions/main/{sent}"))["session"] == f"main/{name}"

    run(test())


def test_a_head_is_the_answer_without_its_body(gateway: Served) -> None:
    written(gateway, "head", ["x"])

    async def test() -> None:
        for target in ("/sessions", "/sessions/main/head", transcript("head"), "/locks"):
            data = request(gateway, target, method="HEAD", connection="close")
            whole = await get(gateway, target, connection="close")
            async with line(gateway) as connection:
                await connection.send(data)
                head = await connection.head()
                assert (head.status, await connection.end()) == (200, b"")
            assert head.headers["content-length"] == whole.headers["content-length"]

    run(test())


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST"])
def test_other_methods_are_named_in_allow(gateway: Served, method: str) -> None:
    async def test() -> None:
        for target in ("/sessions", "/sessions/main/a", transcript("a"), "/locks"):
            answer = await exchange(gateway, request(gateway, target, method=method))
            assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
            assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]
        wrong = await get(gateway, "/sessions/main/a/release")
        assert (wrong.status, wrong.headers["allow"]) == (405, "POST")

    run(test())


# Storage that is not as it should be


def test_what_lies_in_the_way_is_an_error_and_nothing_waits_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, Scripted(echo)) as gateway:
            directory = planted(gateway, "fine", b"").parent
            os.mkfifo(directory / "fifo.jsonl")
            (tmp_path / "secret").write_text('{"type":"message","id":"secret"}\n')
            (directory / "link.jsonl").symlink_to(tmp_path / "secret")
            (directory / "dir.jsonl").mkdir()
            for name in ("fifo", "link", "dir"):
                answer = await get(gateway, transcript(name))
                assert (answer.status, answer.error()["code"]) == (503, "storage_error")
                assert b"secret" not in answer.body
            (gateway.state / "agents/file").mkdir()
            (gateway.state / "agents/file/sessions").write_text("a file, and no directory")
            for target in ("/sessions/file/a", "/sessions/file/a/transcript"):
                assert (await get(gateway, target)).error()["code"] == "storage_error"
            listed = (await page(gateway, "/sessions"))["sessions"]
            assert [one["session"] for one in listed] == ["main/fine"]

    run(test())


def test_no_answer_holds_the_token_or_a_key(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            served(tmp_path) as gateway,
            gateway.client(max_retries=0) as client,
        ):
            turn = asyncio.create_task(failure(client, "/hang"))
            await eventually(lambda: gateway.claim().exists() and gateway.said())
            assert (await post(gateway, chat("x", user="b"))).status == 200
            for target in ("/sessions", "/sessions/main/a", transcript("a"), "/locks"):
                answer = await get(gateway, target)
                assert answer.status == 200
                assert gateway.token.encode() not in answer.body
                assert b"practice-" not in answer.body
            await turn

    run(test())
