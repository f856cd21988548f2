"""Whole state directories, ours and OpenClaw's: doctor's input, with a live holder in it.

An input is text, so that a seed can be read and a word of the dictionary means something::

    file agents/main/sessions/b.jsonl
    {"type":"session",…
    --
    fifo agents/main/sessions/c.jsonl.lock

Each part makes one thing in the directory: ``file``, ``dir``, ``fifo``, ``socket``, ``link`` (its
content is where to), ``hard`` (of another path), ``sparse`` (so many bytes of nothing), ``deep``
(directories in directories), ``old`` and ``far`` (a file with odd times), ``open`` (a file with
mode 0777).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import turnlock
from tests.doctor.planting import FRAGMENT, HEADER, MESSAGE, bytes_of
from tests.helpers import Child
from turnlock.backends.files.birth import is_temporary
from turnlock.clock import SystemClock
from turnlock.doctor.examine import examine
from turnlock.doctor.findings import Report

_SEPARATOR = b"\n--\n"
_PARTS_MAX = 24
_DEEP_MAX = 60
_SPARSE_MAX = 1 << 20
_HELD = "held"
HOLD = """
    import turnlock
    store = turnlock.open_store(sys.argv[1])
    with store.turn("main/held", max_hold=1e7, turn_id="HELD") as turn:
        turn.append(turnlock.user("mine"))
        print("holding", flush=True)
        sys.stdin.read()
"""


class Place:
    """A state directory with a live holder of ``main/held``, kept from one input to the next.

    ``outside`` is where links may lead: nothing in there may change.
    """

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="turnlock-fuzz-"))
        self.root = self.base / "state"
        self.outside = self.base / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_bytes(b"a file of somebody else")
        self.sessions = self.root / "agents" / "main" / "sessions"
        self._holder = Child(HOLD, self.root)
        self._holder.expect("holding")
        self.transcript = self.sessions / f"{_HELD}.jsonl"
        self.lock = self.sessions / f"{_HELD}.jsonl.lock"
        self.before = self.held()
        self.victim = bytes_of(self.outside)

    def held(self) -> tuple[bytes, int, bytes]:
        return self.lock.read_bytes(), self.lock.stat().st_ino, self.transcript.read_bytes()

    def check(self) -> None:
        assert self.held() == self.before, "the live holder's session was touched"
        assert bytes_of(self.outside) == self.victim, "something outside was changed"

    def clear(self) -> None:
        """Remove all but what is held."""
        kept = {self.lock, self.transcript, *self.lock.parents}
        for directory in (self.root, self.root / "agents", self.sessions.parent, self.sessions):
            for path in directory.iterdir():
                if path not in kept:
                    _remove(path)
        for path in (self.root, self.root / "agents", self.sessions.parent, self.sessions):
            path.chmod(0o700)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._holder.close()
        shutil.rmtree(self.base, ignore_errors=True)


@functools.cache
def place() -> Place:
    made = Place()
    atexit.register(made.close)
    return made


def _remove(path: Path) -> None:
    if not path.is_symlink() and path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def look_and_repair(data: bytes) -> None:
    """I9 to I11. Doctor looks without a trace, repairs without a loss, and once is enough."""
    here = place()
    try:
        _look_and_repair(here, data)
    except BaseException:
        # What broke may be the place.
        here.close()
        place.cache_clear()
        raise


def _look_and_repair(here: Place, data: bytes) -> None:
    with _planted(here, data):
        before = bytes_of(here.root)
        _report(here, fix=False)
        _list(here)
        assert bytes_of(here.root) == before, "looking changed something"
        transcripts = _transcripts(here)
        _report(here, fix=True)
        here.check()
        _kept(transcripts)
        before = bytes_of(here.root)
        again = _report(here, fix=True)
        assert bytes_of(here.root) == before, "a second repair changed something"
        assert not any(one.fixed for one in again.findings), again.findings
        _clean_up(here)
        here.check()
        _kept(transcripts)


def _report(here: Place, *, fix: bool) -> Report:
    report = examine(str(here.root), fix=fix, deep=True)
    crashed = [one for one in report.findings if one.check == "check-crashed"]
    assert not crashed, crashed
    json.dumps(report, default=str)
    held = [lock for lock in report.locks if lock.path == str(here.lock)]
    assert [lock.stale for lock in held] == [False], report.locks
    return report


def _list(here: Place) -> None:
    with turnlock.open_store(here.root) as store:
        keys = [one.session for one in store.sessions()]
        assert "main/held" in keys
        for key in keys:
            with contextlib.suppress(turnlock.TranscriptError):
                list(store.read(key))


def _clean_up(here: Place) -> None:
    with turnlock.open_store(here.root, durability="none") as store:
        store.clean_stale()


def _transcripts(here: Place) -> dict[Path, bytes]:
    """Every regular file that may be a transcript, or what was kept of one."""
    kept = (".jsonl", ".torn")
    return {
        path: path.read_bytes()
        for path in here.root.rglob("*")
        if path.name.endswith(kept) and not path.is_symlink() and path.is_file()
        and not is_temporary(path.name)
    }  # fmt: skip


def _kept(transcripts: dict[Path, bytes]) -> None:
    for path, content in transcripts.items():
        assert path.read_bytes().startswith(content), f"bytes of {path.name} are lost"


# What is planted


@contextlib.contextmanager
def _planted(here: Place, data: bytes) -> Iterator[None]:
    try:
        for part in data.split(_SEPARATOR)[:_PARTS_MAX]:
            with contextlib.suppress(OSError, ValueError):
                _plant(here, part)
        yield
    finally:
        here.clear()


def _plant(here: Place, part: bytes) -> None:
    """Raises OSError or ValueError for what cannot be there."""
    head, _, content = part.partition(b"\n")
    kind, _, name = head.partition(b" ")
    path = _path(here, name)
    if path in (here.lock, here.transcript, here.root):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link on the way: nothing is planted behind it.
    if path.parent.resolve() != path.parent:
        return
    _make(here, kind, path, content)


def _path(here: Place, name: bytes) -> Path:
    """Below the root, whatever the name says."""
    parts = [part for part in os.fsdecode(name).split("/") if part not in ("", ".", "..")]
    return here.root.joinpath(*parts[:_DEEP_MAX])


def _make(here: Place, kind: bytes, path: Path, content: bytes) -> None:
    match kind:
        case b"dir":
            path.mkdir()
        case b"fifo":
            os.mkfifo(path, 0o600)
        case b"socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case b"link":
            path.symlink_to(_target(here, path, content))
        case b"hard":
            source = _path(here, content.strip())
            # A transcript with two names is two sessions to everybody, and neither is safe.
            if source != here.transcript:
                os.link(source, path, follow_symlinks=False)
        case b"sparse":
            path.touch(0o600)
            os.truncate(path, int(content[:9]) % _SPARSE_MAX)
        case b"deep":
            path.joinpath(*["d"] * min(_DEEP_MAX, len(content) + 1)).mkdir(parents=True)
        case b"file" | b"old" | b"far" | b"open":
            with open(path, "xb") as file:
                file.write(content)
            path.chmod(0o777 if kind == b"open" else 0o600)
            _set_times(path, kind)


def _target(here: Place, path: Path, content: bytes) -> str:
    """Where a link leads: outside, to itself, or anywhere below the root."""
    wanted = content.strip()
    if wanted.startswith(b"outside"):
        rest = wanted.partition(b"/")[2]
        return str(here.outside / "victim") if rest else str(here.outside)
    return str(path if wanted == b"loop" else _path(here, wanted))


def _set_times(path: Path, kind: bytes) -> None:
    now = SystemClock().wall()
    if kind == b"old":
        os.utime(path, (now - 9999, now - 9999))
    elif kind == b"far":
        os.utime(path, (2.0**38, 2.0**38))


# Seeds


def part(kind: str, name: str, content: bytes = b"") -> bytes:
    return f"{kind} {name}\n".encode() + content


def _state(*parts: bytes) -> bytes:
    return _SEPARATOR.join(parts)


def seeds() -> list[bytes]:
    at = "agents/main/sessions/"
    dead = json.dumps({"pid": 2**22 - 1, "createdAt": "2026-02-17T10:00:00.000Z"}).encode()
    opening = (
        b'{"type":"custom","customType":"turnlock:turn","id":"o","parentId":null,"epoch":1,'
        b'"timestamp":"2026-01-01T00:00:00.000Z","data":{"v":1,"turnId":"T"}}\n'
    )
    index = {"agent:main:main": {"sessionId": "b"}, "agent:main:x": {"sessionFile": "/t/c.jsonl"}}
    return [
        _state(
            part("file", f"{at}a.jsonl", HEADER + opening + MESSAGE),
            part("old", f"{at}a.jsonl.lock", dead),
        ),
        _state(part("file", f"{at}b.jsonl", HEADER + MESSAGE + FRAGMENT)),
        _state(part("fifo", f"{at}c.jsonl.lock"), part("fifo", f"{at}d.jsonl")),
        _state(part("dir", f"{at}e.jsonl"), part("dir", f"{at}e.jsonl.lock")),
        _state(
            part("link", f"{at}f.jsonl", b"outside/victim"), part("link", "agents/x", b"agents")
        ),
        _state(part("link", f"{at}g.jsonl.lock", b"loop"), part("socket", f"{at}g.jsonl")),
        _state(part("sparse", f"{at}h.jsonl", b"70000"), part("deep", f"{at}i", b"x" * 40)),
        _state(part("far", f"{at}j.jsonl", HEADER), part("far", f"{at}j.jsonl.lock", dead)),
        _state(part("open", f"{at}k.jsonl", HEADER), part("old", f"{at}.k.jsonl.lock.1.tmp")),
        _state(
            part("file", f"{at}sessions.json", json.dumps(index).encode()),
            part("file", f"{at}b.jsonl", HEADER + MESSAGE),
            part("old", f"{at}b.jsonl.lock", b"{}"),
            part("file", "openclaw.json", b"{}"),
        ),
        _state(part("link", "agents/y/sessions", f"{at}".encode())),
        _state(part("hard", f"{at}z.jsonl.lock", f"{at}held.jsonl.lock".encode())),
        _state(part("file", "gateway.json", b'{"pid": 1, "url": "http://127.0.0.1:1", "v": 1}')),
        _state(part("file", "agents"), part("dir", "agents/main/sessions/\x1b[31m\n.jsonl")),
        b"",
    ]


WORDS = (
    _SEPARATOR, b"file ", b"old ", b"far ", b"dir ", b"fifo ", b"socket ", b"link ", b"hard ",
    b"sparse ", b"deep ", b"open ", b"agents/main/sessions/", b"agents/", b"sessions/", b".jsonl",
    b".jsonl.lock", b".torn", b".jsonl.torn", b".trajectory.jsonl", b"sessions.json", b"token",
    b"gateway.json", b"gateway.lock", b"openclaw.json", b"outside", b"loop", b"held", b"..", b"\n",
    b"\xff", "\u202e".encode(), b"\x1b[0m", b"n" * 250, HEADER, MESSAGE, FRAGMENT, b"{}",
    b"[" * 2000,
    b'{"pid": 1, "v": 1}', b'{"pid": 4194303}', b"9" * 4400, b"\0" * 9,
)  # fmt: skip
