"""The description is true: held to routes, codes and answers here, and by schemathesis."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import turnlock.gateway
from turnlock.events import Event
from turnlock.gateway import errors
from turnlock.gateway.app import HANDLERS
from turnlock.gateway.errors import CODES, Explainer, Refusal
from turnlock.gateway.jsonout import to_json
from turnlock.gateway.openapi import document
from turnlock.gateway.operations import COMMON, KEY_LENGTH_MAX, OPERATIONS
from turnlock.gateway.schemas import SCHEMAS
from turnlock.session import SessionKey, parse_key
from turnlock.transcript.entries import REASONS

from .raw import exchange, get, request
from .serving import Served, run

SOURCE = Path(turnlock.gateway.__file__).parent
ROOT = SOURCE.parent.parent.parent

# One table


def test_every_operation_has_its_handler_and_every_handler_its_operation() -> None:
    assert sorted(HANDLERS) == sorted(operation.name for operation in OPERATIONS)
    asked = [(operation.method, operation.path) for operation in OPERATIONS]
    assert len(set(asked)) == len(asked)


def test_every_schema_is_used_and_there() -> None:
    used = {operation.answer for operation in OPERATIONS if "/" not in operation.answer}
    used |= {operation.body for operation in OPERATIONS if operation.body is not None}
    assert used | {"Error"} == set(SCHEMAS)


def said_codes() -> Iterator[object]:
    """Every text that stands where a code does, in the source of the gateway."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("Refusal", "too_many") and node.args:
                first = node.args[0]
                yield from [first.value] if isinstance(first, ast.Constant) else []
            yield from (
                word.value.value
                for word in node.keywords
                if word.arg == "code" and isinstance(word.value, ast.Constant)
            )


def computed_codes() -> set[str]:
    """Those that are made of a reason or of the name of a limit."""
    explain = Explainer(turnlock.Limits(turn=5, max_hold=9), str)
    made = set()
    for limits in (turnlock.Limits(turn=5, max_hold=9), turnlock.Limits(max_hold=9)):
        explain = Explainer(limits, str)
        for reason in (*REASONS, "superseded", "forked"):
            error = turnlock.LeaseRevoked("main/a", turn_id="t", held=1.0, reason=reason)
            made.add(explain.refusal(error, stored=False, began=False, turn="t").code)
    for name in ("model", "turn"):
        error2 = errors.LimitPassed(name, 1.0)
        made.add(explain.refusal(error2, stored=False, began=False, turn="t").code)
    return made | {"invalid_request"}


def test_the_codes_are_all_that_is_said_and_each_is() -> None:
    assert set(said_codes()) | computed_codes() == set(CODES) - {"hold_limit"}
    # Where the hold limit is the smaller one; the configuration never makes it so.
    assert "hold_limit" in (SOURCE / "errors.py").read_text()


def test_every_code_is_an_answer_of_some_operation() -> None:
    told = set(COMMON).union(*(operation.codes for operation in OPERATIONS))
    assert told | {"unknown_url", "stall_limit"} == set(CODES)
    for operation in OPERATIONS:
        assert not set(COMMON) & set(operation.codes), operation.name


def test_the_document_names_every_code_where_it_can_be_said() -> None:
    for operation in OPERATIONS:
        described = document()["paths"][operation.path][operation.method.lower()]
        for code in operation.codes:
            text = described["responses"][str(CODES[code].status)]["description"]
            assert f"`{code}`" in text


def test_the_pattern_of_a_session_key_is_that_of_the_code() -> None:
    longest = str(SessionKey("a" * 128, "b" * 128))
    assert len(longest) == KEY_LENGTH_MAX
    assert parse_key(longest)


# Asked for


def test_the_document_is_what_is_served(gateway: Served) -> None:
    async def test() -> None:
        answer = await get(gateway, "/openapi.json")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert json.loads(answer.body) == document()
        assert (await get(gateway, "/openapi.json", authorization=None)).status == 401

    run(test())


def test_every_operation_is_reached_and_wants_the_token(gateway: Served) -> None:
    async def test() -> None:
        for operation in OPERATIONS:
            target = operation.path.format(agent="main", name="a", model="main")
            for token in (None, "Bearer", "Bearer x", f"bearer {gateway.token}"):
                data = request(
                    gateway, target, method=operation.method, body=b"{}", authorization=token
                )
                answer = await exchange(gateway, data)
                assert (answer.status == 401) != operation.is_open, (operation.name, token)
            wrong = request(gateway, target, method="PATCH", body=b"{}")
            refused = await exchange(gateway, wrong)
            assert refused.status == 405
            assert operation.method in refused.headers["allow"]
            foreign = request(gateway, target, method=operation.method, origin="https://x.example")
            assert (await exchange(gateway, foreign)).status == 403

    run(test())


def test_what_a_stream_of_events_says_is_documented() -> None:
    page = (ROOT / "docs/reference/http.md").read_text()
    for event in Event.__args__:
        assert f"`{event.__name__}`" in (ROOT / "docs/reference/python.md").read_text()
    for name in ("listening", "gap", "dropped", "end", "overrun", "restarted", "unknown"):
        assert f"`{name}`" in page


# JSON


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_json_is_strict_and_harmless_or_refused(value: Any) -> None:
    try:
        text = to_json(value)
    except ValueError:
        assert "nan" in repr(value) or "inf" in repr(value)
        return
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == value


@pytest.mark.parametrize("half", ["\ud800", "a\udfffb", "\udc00\ud800"])
def test_half_a_character_is_none(half: str) -> None:
    found = json.loads(to_json({"x": half, "y": "\\ud800 \U0001f600"}))
    assert found["x"].encode()
    assert "\ufffd" in found["x"]
    assert found["y"] == "\\ud800 \U0001f600"


def test_an_error_is_json_whatever_it_tells() -> None:
    text = "\x7f\x1b\u202e\ud800"
    body = Refusal("unknown_url", text, param=text, facts={"session": text}).body()
    assert body.isascii()
    assert json.loads(body)["error"]["code"] == "unknown_url"
    assert not any(byte < 0x20 or byte == 0x7F for byte in body)


# Schemathesis


@pytest.mark.processes
@pytest.mark.timeout(240)
def test_schemathesis_finds_nothing() -> None:
    """A small run with a fixed seed; ``make api-check`` is the big one."""
    program = [sys.executable, str(ROOT / "scripts/api_check.py")]
    program += ["--examples", "6", "--seed", "1"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "generated" in done.stdout
