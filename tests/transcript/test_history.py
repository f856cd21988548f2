"""Histories that a strict endpoint accepts, whatever the transcript has."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import turnlock
from tests.transcript.strict import Refused, judge
from turnlock.transcript.entries import Entry, Failure, cut_off_result, marker, tool_calls
from turnlock.transcript.history import Message, active_branch, messages
from turnlock.transcript.jsonl import decode, read_lines

SAMPLES = Path(__file__).parent.parent / "samples"


def assistant(text: str = "", *calls: Any, **more: Any) -> Entry:
    parts: list[Any] = [{"type": "text", "text": text}] if text else []
    parts += [
        call
        if isinstance(call, dict)
        else {"type": "toolCall", "id": call, "name": "look", "arguments": {"at": 1}}
        for call in calls
    ]
    return {"type": "message", "message": {"role": "assistant", "content": parts} | more}


def result(identity: Any, text: str = "seen") -> Entry:
    content = [{"type": "text", "text": text}] if text else []
    message = {"role": "toolResult", "toolCallId": identity, "content": content}
    return {"type": "message", "message": message}


def judged(*entries: Entry) -> list[Message]:
    made = messages(entries)
    judge(made)
    return made


def short(history: list[Message]) -> list[str]:
    return [
        f"{one['role']}:{one.get('tool_call_id', one['content'])}"
        + "".join(f"+{call['id']}" for call in one.get("tool_calls", []))
        for one in history
    ]


def test_a_result_follows_its_call_wherever_it_stands() -> None:
    asked = turnlock.user("2")
    found = judged(assistant("1", "a", "b"), asked, result("b"), turnlock.user("3"), result("a"))
    assert short(found) == ["assistant:1+a+b", "tool:a", "tool:b", "user:2", "user:3"]


def test_a_call_without_result_gets_one_that_says_so() -> None:
    """F1, F10: the model has to know that something was begun."""
    found = judged(turnlock.user("1"), assistant("", "a"), turnlock.user("2"))
    assert short(found) == ["user:1", "assistant:None+a", "tool:a", "user:2"]
    assert "no result" in found[2]["content"]


def test_results_without_call_and_second_results_are_left_out() -> None:
    """F2: orphans, both ways."""
    found = judged(result("x"), assistant("", "a"), result("a", "1"), result("a", "2"), result("y"))
    assert [one["content"] for one in found] == [None, "1"]


@pytest.mark.parametrize("reason", ["error", "aborted"])
def test_half_a_call_is_left_out_of_a_reply_that_was_cut_short(reason: str) -> None:
    """F2, F24: nothing may answer a call that was only partly stored."""
    cut = assistant("so far", "a", "b", stopReason=reason)
    assert short(judged(cut, result("a"))) == ["assistant:so far+a", "tool:a"]
    assert judged(assistant("", "a", stopReason=reason), turnlock.user("1")) == [
        {"role": "user", "content": "1"}
    ]


@pytest.mark.parametrize("identity", ["", None, 5, 0, True, ["a"], "x" * 41, "a b", "é", "|", {}])
def test_an_id_that_no_endpoint_takes_is_another_one(identity: Any) -> None:
    part = {"type": "toolCall", "id": identity, "name": "look", "arguments": {}}
    found = judged(assistant("", part), result(identity, "found"))
    assert found[1]["content"] == "found"
    assert found[1]["tool_call_id"] == found[0]["tool_calls"][0]["id"]


def test_an_id_that_comes_again_belongs_to_the_later_call() -> None:
    found = judged(
        *(assistant("", "a"), result("a", "1"), assistant("", "a", "a"), result("a", "2")),
        *(assistant("", "call-1"), result("call-1", "3")),
    )
    assert [one["content"] for one in found if one["role"] == "tool"][0::2] == ["1", "2"]
    assert found[-1]["content"] == "3"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "toolCall", "id": "a"},
        {"type": "toolCall", "id": "a", "name": ""},
        {"type": "toolCall", "id": "a", "name": 3},
    ],
)
def test_a_call_without_a_name_is_none(part: Entry) -> None:
    assert judged(assistant("", part), result("a")) == []


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {}),
        ({"a": [1, "é"]}, {"a": [1, "é"]}),
        ('{"a":1}', {"a": 1}),
        ('{"a":', {"arguments": '{"a":'}),
        ([1], {}),
        ("5", {}),
        ({"a": "\ud800\0"}, {"a": "\ufffd\ufffd"}),
        (json.loads('{"a":1e999}'), {}),
    ],
)
def test_arguments_are_the_text_of_an_object(given: Any, sent: Any) -> None:
    part = {"type": "toolCall", "id": "a", "name": "look", "arguments": given}
    found = judged(assistant("", part))
    assert json.loads(found[0]["tool_calls"][0]["function"]["arguments"]) == sent


def test_names_of_tools_have_no_odd_characters() -> None:
    part = {"type": "toolCall", "id": "a", "name": "files.read é" + "x" * 99, "arguments": {}}
    name = judged(assistant("", part))[0]["tool_calls"][0]["function"]["name"]
    assert name.startswith("files_read__xxx")


def test_nothing_empty_is_sent() -> None:
    """F12: an empty entry, refused, made the next empty entry, for ever."""
    image = {"type": "message", "message": {"role": "user", "content": [{"type": "image"}]}}
    empty = [turnlock.user(""), assistant(), assistant(stopReason="error"), {"type": "message"}]
    failed = marker(Failure("T", "error", "x"), session_id=None, wall=0.0)
    found = judged(*empty, failed, image, assistant("", "a"), result("a", ""))
    assert [one["content"] for one in found] == ["(a message without text)", None, "(no output)"]


def test_white_space_alone_is_nothing() -> None:
    """Anthropic refuses a history with such a text in it, and with it every later turn."""
    called = [assistant(" ", "a"), result("a", "\t")]
    summary: Entry = {"type": "branch_summary", "summary": " \n"}
    found = judged(turnlock.user("\n "), assistant(" "), summary, *called)
    assert [one["content"] for one in found] == ["(a message without text)", None, "(no output)"]


def test_text_holds_neither_nul_nor_half_of_a_character() -> None:
    found = judged(turnlock.user("a\0b\ud83dc😀"), assistant("\udc00", "a"), result("a", "\ud800"))
    assert [one["content"] for one in found] == ["a\ufffdb\ufffdc😀", "\ufffd", "\ufffd"]


# Trees


def entry(identity: Any, parent: Any, text: str = "") -> Entry:
    return turnlock.user(text or str(identity)) | {"id": identity, "parentId": parent}


def branch(*entries: Entry) -> list[Any]:
    return [one["id"] for one in active_branch(entries)]


def test_of_a_fork_the_branch_of_the_last_entry_counts() -> None:
    assert branch(entry("a", None), entry("b", "a"), entry("c", "a"), entry("d", "b")) == [
        "a",
        "b",
        "d",
    ]


def test_a_model_is_told_of_the_branch_alone() -> None:
    told = messages([entry("a", None), entry("b", "a"), entry("c", "a"), entry("d", "b")])
    assert [one["content"] for one in told] == ["a", "b", "d"]


@pytest.mark.parametrize("parent", ["missing", "c", "b", 5])
def test_a_parent_that_is_missing_or_comes_later_is_the_entry_before(parent: Any) -> None:
    assert branch(entry("a", None), entry("b", parent), entry("c", "b")) == ["a", "b", "c"]


def test_of_two_entries_with_one_id_the_later_is_the_parent() -> None:
    found = active_branch([entry("a", None, "1"), entry("a", "a", "2"), entry("b", "a")])
    assert [one["message"]["content"][0]["text"] for one in found] == ["1", "2", "b"]


def test_who_went_back_to_the_beginning_began_a_new_tree() -> None:
    assert branch(entry("a", None), entry("b", "a"), entry("c", None), entry("d", "c")) == [
        "c",
        "d",
    ]
    ours = entry("c", None) | {"epoch": 1}
    assert branch(entry("a", None), entry("b", "a"), ours) == ["a", "b", "c"]


def test_a_file_that_names_no_parents_is_one_chain() -> None:
    assert branch(entry("a", None), entry("b", None), turnlock.user("x") | {"id": "c"}) == [
        "a",
        "b",
        "c",
    ]


def test_openclaws_forked_transcript_gives_the_branch_that_it_went_on_with() -> None:
    path = SAMPLES / "openclaw-2026.2.17/transcript-hold-watchdog.jsonl"
    entries = [found for line in path.read_bytes().splitlines() if (found := decode(line))]
    texts = [one["content"] for one in judged(*entries)]
    assert [text[:32] for text in texts] == [
        "MODE=ok first",
        "fake reply 1",
        "MODE=hang_mid_stream hung message"[:32],
        "partial answer then fake reply 2",
        "MODE=ok second message (same gat",
        "fake reply 4",
    ]


def test_a_compaction_stands_for_what_was_before_it() -> None:
    compaction = {"type": "compaction", "id": "z", "parentId": "c", "summary": "hello"}
    kept = [entry("a", None), entry("b", "a"), entry("c", "b")]
    after = entry("d", "z")
    found = judged(*kept, compaction | {"firstKeptEntryId": "c"}, after)
    assert [one["content"] for one in found][1:] == ["c", "d"]
    assert "hello" in found[0]["content"]
    assert len(judged(*kept, compaction | {"firstKeptEntryId": "lost"}, after)) == 2


def test_what_openclaw_tells_the_model_besides_is_told() -> None:
    told = {"type": "custom_message", "content": [{"type": "text", "text": "a note"}]}
    summary = {"type": "branch_summary", "summary": "went wrong"}
    contents = [one["content"] for one in judged(summary, told, {"type": "custom_message"})]
    assert contents[1:] == ["a note"]
    assert contents[0].endswith("went wrong")


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/transcript-*.jsonl")), ids=lambda p: p.stem)
def test_the_history_of_every_openclaw_transcript_is_accepted(path: Path) -> None:
    content = path.read_bytes()
    lines = read_lines(lambda at, n: content[at : at + n])
    assert judged(*(line.entry for line in lines if line.entry))


def test_any_mixture_of_calls_and_results_is_accepted() -> None:
    """F2, as a property: any order, any ids, any doubles."""
    ids = ["a", "b", "", None, 5, "x" * 50]
    for seed in range(300):
        chance = random.Random(seed)
        pool = [turnlock.user("u"), assistant("t"), assistant("", stopReason="error")]
        pool += [assistant("", *chance.choices(ids, k=chance.randint(1, 3))) for _ in range(3)]
        pool += [assistant("t", chance.choice(ids), stopReason="aborted")]
        pool += [result(chance.choice(ids)) for _ in range(5)]
        entries = chance.choices(pool, k=12)
        judged(*entries)


def test_what_the_writer_adds_for_a_cut_call_is_its_result() -> None:
    called = assistant("", "a")
    (call,) = tool_calls(called)
    found = judged(called, cut_off_result(call))
    assert "turn ended" in found[1]["content"]


@pytest.mark.parametrize(
    "history",
    [
        [{"role": "assistant", "content": ""}],
        [{"role": "tool", "tool_call_id": "a", "content": "x"}],
        [{"role": "user", "content": "a\0"}],
        messages([assistant("", "a")])[:1],
        [*messages([assistant("", "a")])[:1], {"role": "user", "content": "x"}],
        messages([assistant("", "a")]) * 2,
    ],
)
def test_the_judge_bites(history: list[Message]) -> None:
    with pytest.raises(Refused):
        judge(history)
