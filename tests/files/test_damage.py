"""Any damage to a transcript: nothing raises, nothing whole is lost, the next turn works."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turnlock
from tests.doctor.planting import bytes_of
from tests.files.test_owed import calls, entries, result, transcript_of
from tests.transcript.strict import judge
from turnlock.backends.files import StateDirectory
from turnlock.doctor.examine import examine
from turnlock.doctor.healing import Healer
from turnlock.session import SessionKey
from turnlock.transcript.jsonl import decode

try:
    from turnlock.models.direct_messages import prompt
except ImportError:  # without the extra of another provider
    prompt = None  # type: ignore[assignment]

Damage = Callable[[bytes], bytes]
KEY = SessionKey("main", "a")
# What only a healed copy repairs.
_LEFT_TO_HEAL = {"header-missing", "header-damaged"}


@functools.cache
def sound() -> bytes:
    """A transcript with turns that ended well, that failed, and that called tools."""
    with tempfile.TemporaryDirectory() as state:
        store = turnlock.open_store(state, durability="none")
        for number in range(4):
            with store.turn("main/a") as turn:
                turn.append(turnlock.user(f'{number} "é\u2028" {{"type":"x"}}'))
                turn.append(calls(f"c{number}", f"d{number}"))
                turn.append(result(f"d{number}"), result(f"c{number}"))
                turn.append(turnlock.assistant("done"))
        with pytest.raises(ValueError), store.turn("main/a") as turn:
            turn.append(turnlock.user("again"), calls("last"))
            raise ValueError("no")
        return transcript_of(Path(state)).read_bytes()


def _at(content: bytes, share: float) -> int:
    return int(share * len(content))


def cut(share: float) -> Damage:
    return lambda content: content[: _at(content, share)]


def behead(share: float) -> Damage:
    return lambda content: content[_at(content, share / 4) :]


def nuls(share: float, length: int) -> Damage:
    def damage(content: bytes) -> bytes:
        at = _at(content, share)
        return content[:at] + b"\0" * length + content[at + length :]

    return damage


def flip(share: float, bit: int) -> Damage:
    def damage(content: bytes) -> bytes:
        at = _at(content, share)
        return (
            content[:at]
            + bytes(byte ^ 1 << bit for byte in content[at : at + 1])
            + content[at + 1 :]
        )

    return damage


def insert(share: float, garbage: bytes) -> Damage:
    return lambda content: content[: _at(content, share)] + garbage + content[_at(content, share) :]


def on_lines(change: Callable[[list[bytes], int, int], None]) -> Callable[[float, float], Damage]:
    def made(one: float, other: float) -> Damage:
        def damage(content: bytes) -> bytes:
            lines = content.splitlines(keepends=True) or [b""]
            last = len(lines) - 1
            change(lines, round(one * last), round(other * last))
            return b"".join(lines)

        return damage

    return made


def _glue(lines: list[bytes], one: int, other: int) -> None:
    lines[one] = lines[one].rstrip(b"\n")


def _swap(lines: list[bytes], one: int, other: int) -> None:
    lines[one], lines[other] = lines[other], lines[one]


def _double(lines: list[bytes], one: int, other: int) -> None:
    lines.insert(other, lines[one])


def _drop(lines: list[bytes], one: int, other: int) -> None:
    del lines[one]


def _cut_line(lines: list[bytes], one: int, other: int) -> None:
    lines[one] = lines[one][: other * 7 + 1]


SHARE = st.floats(0, 1)
GARBAGE = st.sampled_from(
    [b"\n", b"\r\n", b"\xef\xbb\xbf", b"{", b'"', b"\xff", b"}", b'{"type":', b'\\"', b"[" * 2000]
)
DAMAGE = st.one_of(
    st.builds(cut, SHARE),
    st.builds(behead, SHARE),
    st.builds(nuls, SHARE, st.integers(1, 5000)),
    st.builds(flip, SHARE, st.integers(0, 7)),
    st.builds(insert, SHARE, GARBAGE | st.binary(max_size=20)),
    *(st.builds(on_lines(one), SHARE, SHARE) for one in (_glue, _swap, _double, _drop, _cut_line)),
)


def untouched(content: bytes) -> set[str]:
    """The ids of entries whose lines are in the damaged transcript as they were."""
    found = content.split(b"\n")
    whole = {line: entry for line in sound().splitlines() if (entry := decode(line))}
    return {
        whole[line]["id"] for line in found if line in whole and whole[line]["type"] != "session"
    }


def check_history(state: Path) -> None:
    with turnlock.open_store(state).turn("main/a") as turn:
        history = turn.messages()
    judge(history)
    if prompt is not None and history:
        kinds = [message.kind for message in prompt(history).messages]
        assert kinds[0] == "request"
        assert all(one != other for one, other in itertools.pairwise(kinds))


def troubles(state: Path, *, deep: bool) -> set[str]:
    report = examine(str(state), fix=True, deep=deep)
    found = {one.check for one in report.findings if one.is_trouble}
    assert report.is_sound is not bool(found)
    return found


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(st.lists(DAMAGE, min_size=1, max_size=4), st.booleans())
def test_whatever_happens_to_a_transcript(damages: list[Damage], deep: bool) -> None:
    """I4 to I7, I10: F1 to F7, F24."""
    check(damages, deep=deep)


def check(damages: list[Damage], *, deep: bool) -> None:
    content = sound()
    for damage in damages:
        content = damage(content)
    wanted = untouched(content)
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        path = transcript_of(state, content)
        path.chmod(0o600)
        assert wanted <= {entry.get("id") for entry in entries(state)}

        assert troubles(state, deep=deep) <= _LEFT_TO_HEAL
        before = bytes_of(state)
        assert troubles(state, deep=deep) <= _LEFT_TO_HEAL
        assert bytes_of(state) == before
        assert path.read_bytes().startswith(content)

        check_history(state)
        with turnlock.open_store(state, durability="none").turn("main/a") as turn:
            turn.append({"id": "new"} | turnlock.user("new"))
            assert turn.messages()[-1] == {"role": "user", "content": "new"}
        check_history(state)
        found = [entry.get("id") for entry in entries(state)]
        assert wanted | {"new"} <= set(found)

        Healer(StateDirectory(directory), KEY).heal(wait=0)
        assert set(found) <= {entry.get("id") for entry in entries(state)}
        assert troubles(state, deep=True) == set()
        before = bytes_of(state)
        assert Healer(StateDirectory(directory), KEY).heal(wait=0).changes is None
        assert troubles(state, deep=True) == set()
        assert bytes_of(state) == before
        check_history(state)
