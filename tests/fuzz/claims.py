"""Lock files: whatever one says, no live lock is freed, and its bytes stay.

``payload`` has bytes parsed, and nothing more. ``claim`` puts them into a lock file whose flock is
held, as a live holder of ours holds it, and has every judge look at it. ``scribe`` writes claims of
drawn facts and reads them back.
"""

from __future__ import annotations

import fcntl
import functools
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import turnlock
from turnlock.backends import Superseded
from turnlock.backends.files import StateDirectory, native
from turnlock.backends.files.claim import CLAIM_BYTES_MAX, Scribe, parse_claim
from turnlock.backends.files.fileops import FileOps
from turnlock.backends.files.inspect import Inspector
from turnlock.backends.files.judgement import State
from turnlock.clock import SystemClock
from turnlock.doctor.examine import examine
from turnlock.session import SessionKey

KEY = SessionKey("main", "a")
_TEXT_MAX = 256
_NESTING_MAX = 200


def parse(data: bytes) -> None:
    """A claim is read of every JSON object, and each field is absent or as the object has it."""
    claim = parse_claim(data)
    if data.count(b"[") + data.count(b"{") > _NESTING_MAX:
        # How deep a parser gets depends on who calls it.
        return
    said = _object(data)
    assert (claim is None) is (said is None)
    if claim is None or said is None:
        return
    assert repr(claim.version) == repr(said.get("v"))
    for name, value in (("pid", claim.pid), ("starttime", claim.start_time)):
        assert value is None or (type(said[name]) is int and said[name] == value >= 0)
    for name, text in (("turnId", claim.turn_id), ("host", claim.host), ("bootId", claim.boot_id)):
        assert text is None or (said[name] == text and len(text) <= _TEXT_MAX)
    for number in (claim.created, claim.max_hold, claim.monotonic):
        assert number is None or math.isfinite(number)
    assert len(claim.owed) <= 32


@functools.cache
def _inspector() -> Inspector:
    return Inspector(FileOps(), SystemClock(), native().processes)


@contextmanager
def _held_lock(content: bytes) -> Iterator[Path]:
    """The root of a state directory with a lock of this content, flocked by somebody."""
    with tempfile.TemporaryDirectory(prefix="turnlock-fuzz-") as root:
        path = Path(StateDirectory(root).place(KEY).lock)
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_bytes(content)
        path.chmod(0o600)
        with path.open("rb") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            yield Path(root)


def judge(data: bytes) -> None:
    """I9. A live holder of ours has the flock; one of another program has our pid and our start."""
    claim = parse_claim(data)
    with _held_lock(data) as root:
        place = StateDirectory(str(root)).place(KEY)
        before = os.stat(place.lock).st_ino
        verdicts = [_verdict(root, to_take=to_take) for to_take in (True, False)]
        is_live = _is_live(data)
        assert not (is_live and State.STALE in verdicts), (verdicts, claim)
        if is_live or (claim is not None and claim.is_ours):
            _try_to_free(root)
            assert os.stat(place.lock).st_ino == before, "the lock was freed"
            assert Path(place.lock).read_bytes() == data, "the claim was changed"


def _verdict(root: Path, *, to_take: bool) -> State:
    place = StateDirectory(str(root)).place(KEY)
    judged = _inspector().look(place, to_take=to_take, stale_after=1800.0)
    assert judged is not None
    judged.close()
    return judged.verdict.state


def _is_live(data: bytes) -> bool:
    """By a naive reading: ours, or of another program and of this very process."""
    said = _object(data)
    if said is None or len(data) > 64 * 1024:
        return False
    if said.get("v") is not None:
        return True
    facts = native().processes.look_up(os.getpid())
    here = {"host": native().processes.host, "bootId": native().processes.boot_id}
    return (
        type(said.get("pid")) is int
        and said["pid"] == os.getpid()
        and type(said.get("starttime")) is int
        and said["starttime"] == facts.start_time
        and all(said.get(name) in (None, value) for name, value in here.items())
    )


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _try_to_free(root: Path) -> None:
    """By everybody who frees stale locks: doctor, the clean-up, a waiter."""
    report = examine(str(root), fix=True)
    assert not [one for one in report.findings if one.check == "check-crashed"], report.findings
    store = turnlock.open_store(root, durability="none")
    list(store.locks())
    store.clean_stale()
    if _is_over_limit(root):
        # The one case in which a waiter may take from a live holder.
        return
    try:
        with store.turn("main/a", wait=0):
            raise AssertionError("a held session was granted")
    except (turnlock.SessionBusy, turnlock.LockPathError, turnlock.StoreError):
        pass


def _is_over_limit(root: Path) -> bool:
    return any("over-limit" in lock.reasons for lock in turnlock.open_store(root).locks())


def seeds() -> list[bytes]:
    mine = native().processes.look_up(os.getpid()).start_time
    ours = _scribe().write(
        turn_id="T1",
        session="main/a",
        max_hold=300.0,
        wall=1_790_000_000.0,
        monotonic=12.5,
        owed=[Superseded("T0", 77, "hold-limit", 301.5, "0123456789abcdef")],
    )
    foreign = {"pid": os.getpid(), "createdAt": "2026-02-17T10:00:00.000Z", "starttime": mine}
    others: list[object] = [
        {"pid": 2**22 - 1, "createdAt": "2026-02-17T10:00:00.000Z"},
        {"pid": True, "createdAt": 17, "starttime": -1, "maxHoldMs": "x"},
        {"pid": os.getpid(), "maxHoldMs": 900_000, "host": "elsewhere"},
        {"v": 2, "pid": 1},
        {"v": 1, "supersedes": [{"turnId": "T"}, 1, None]},
        {"holder": True},
        [],
        None,
    ]
    # Held all the same: in another container this process has another number.
    elsewhere = ours.replace(b'"pid": %d' % os.getpid(), b'"pid": 4194303')
    return [ours, elsewhere, b"", b"{", *(json.dumps(one).encode() for one in (foreign, *others))]


def words() -> tuple[bytes, ...]:
    names = ("pid", "createdAt", "starttime", "maxHoldMs", "v", "turnId", "session", "host")
    more = ("bootId", "pidNamespace", "monotonic", "program", "supersedes", "epoch", "reason")
    values = (
        "1", "0", "-1", "null", "true", "1e999", "NaN", "9" * 400, "9" * 4400, "1.5", "[]", "{}",
        '"2026-01-01T00:00:00.000Z"', '"0001-01-01T00:00:00+23:59"', '"9999-12-31T23:59:59-23:59"',
        str(os.getpid()), str(native().processes.look_up(os.getpid()).start_time), '"\\ud800"',
        json.dumps(native().processes.boot_id), json.dumps(native().processes.host), "[" * 3000,
    )  # fmt: skip
    fields = (*(f'"{name}": ' for name in names + more), ", ", "\n", "{", "}", "\\u0000")
    return (*(text.encode() for text in (*fields, *values)), b"\xff", b"\xef\xbb\xbf", b"\0")


# The writer


@functools.cache
def _scribe() -> Scribe:
    return Scribe(native().processes)


def write_and_read(data: bytes) -> None:
    """What a claim says is what is read of it; texts that are empty or too long count as absent."""
    read = data.decode("utf-8", "surrogateescape")
    texts = [text[:_TEXT_MAX] for text in read.split("\0")] + [""] * 3
    number = int.from_bytes(data[:6], "big")
    owed = [
        Superseded(text, number % 2**31 or 1, texts[0] or "error", number / 1000, f"{number:016x}")
        for text in texts[2:40]
    ]
    raw = _scribe().write(
        turn_id=texts[0] or None,
        session=texts[1],
        max_hold=(number + 1) / 1000,
        wall=float(number % 2**33),
        monotonic=number / 7,
        owed=owed,
        opening=f"{number:016x}",
    )
    assert raw.endswith(b"}\n")
    assert raw.isascii()
    assert len(raw) <= CLAIM_BYTES_MAX, "nobody will read it"
    claim = parse_claim(raw)
    assert claim is not None
    assert claim.is_known_version
    assert claim.pid == os.getpid()
    assert claim.turn_id == _kept(texts[0])
    assert claim.session == _kept(texts[1])
    assert claim.monotonic == number / 7
    assert claim.max_hold == (number + 1) / 1000
    # What names no turn owes nothing.
    told = [turn for turn in owed if _kept(turn.turn_id)]
    assert list(claim.owed) == told[len(told) - len(claim.owed) :]
    # The newest is always there, and all are as long as they say no more than ours do.
    assert bool(claim.owed) is bool(told)
    said = sum(len(json.dumps([turn.turn_id, turn.reason])) for turn in owed)
    assert len(claim.owed) >= min(len(told), 32) or said > 16 * 1024


def _kept(text: str | None) -> str | None:
    return text if text and len(text) <= _TEXT_MAX else None


def writer_seeds() -> list[bytes]:
    most = "\U0001f600" * 256 + "\0"
    return [
        (most * 40).encode(),
        b"T1\0main/a\0T0",
        # What names nobody must not crowd it out.
        b"T1\0main/a\0T0" + b"\0" * 37,
        b"",
        b'"\\\n\0\x1b[0m\0\xff\xfe',
        "é\u2028\U0001f600".encode(),
    ]
