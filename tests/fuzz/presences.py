"""What a state directory says of its gateway: ``gateway.json``, ``gateway.lock``, the token.

An input is the two files, with ``--`` on a line between them. The directory's lock is held, as by a
gateway, when the first of them has an even number of bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from turnlock.backends.files import native
from turnlock.doctor.condition import LOCK_FILE, PRESENCE_FILE
from turnlock.doctor.examine import examine
from turnlock.doctor.live import (
    AlreadyServed,
    Gateway,
    GatewayUnreachable,
    gateway_of,
    second_gateway,
)
from turnlock.doctor.presence import owner_of, read_written
from turnlock.gateway.state import present
from turnlock.session import SessionKey

_SEPARATOR = b"\n--\n"


def look(data: bytes) -> None:
    """Whatever the files say: who has the lock is told by the kernel, and all of it can be said."""
    told, _, lock = data.partition(_SEPARATOR)
    with _directory(told, lock, held=len(told) % 2 == 0) as (root, held):
        read_written(f"{root}/{PRESENCE_FILE}")
        owner = owner_of(root)
        assert (owner is not None) is held
        assert owner is None or owner.pid == os.getpid()
        gateway = gateway_of(root, 0.1)
        if held:
            assert gateway is not None
            assert gateway.has_lock
        if gateway is not None:
            _say(root, gateway)
        report = examine(root, fix=True)
        crashed = [one for one in report.findings if one.check == "check-crashed"]
        assert not crashed, crashed


def _say(root: str, gateway: Gateway) -> None:
    assert gateway.description
    assert gateway.remedy
    assert gateway.locks() == {}
    second_gateway(root, gateway)
    assert str(AlreadyServed(root, gateway))
    assert str(GatewayUnreachable("main/a", gateway))
    with pytest.raises(GatewayUnreachable):
        gateway.release(SessionKey("main", "a"), "T")


@contextmanager
def _directory(told: bytes, lock: bytes, *, held: bool) -> Iterator[tuple[str, bool]]:
    with _root() as root:
        Path(root, PRESENCE_FILE).write_bytes(told)
        Path(root, LOCK_FILE).write_bytes(lock)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if held:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield os.path.realpath(root), held
        finally:
            os.close(descriptor)


def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="turnlock-fuzz-")


def seeds() -> list[bytes]:
    processes = native().processes
    with _root() as root, present(root, "http://127.0.0.1:9"):
        ours = Path(root, PRESENCE_FILE).read_bytes()
    claim = {
        "pid": os.getpid(),
        "starttime": processes.look_up(os.getpid()).start_time,
        "host": processes.host,
        "bootId": processes.boot_id,
        "pidNamespace": processes.pid_namespace,
        "v": 1,
        "stage": "serving",
        "url": "http://127.0.0.1:9",
    }
    lock = json.dumps(claim).encode()
    old = json.dumps({"pid": os.getpid(), "url": "http://[::1]:9", "started": None}).encode()
    both = [first + pad + _SEPARATOR + lock for first in (ours, old) for pad in (b"", b" ")]
    odd = [old.replace(b"[::1]", host) for host in (b"a b", b"\\u0000", b"[::1", b"h:1")]
    return [*both, *odd, ours, old, b"", b" ", b"[]" + _SEPARATOR + b"{}"]


WORDS = (
    b'"pid": ', b'"url": ', b'"v": 1', b'"stage": ', b'"started": ', b'"starting"', b'"draining"',
    b'"serving"', b'"http://127.0.0.1:9"', b'"http://a b:1"', b'"http://[::1"', b'"http://h:99999"',
    b'"http://\\u0000/"', b'"http://\\ud800/"', b'"http://x\\n:1"', b'"HTTP://:1"', b'"http://@:x"',
    b'"http://' + b"a" * 200 + b'"', b"null", b"true", b"-1", b"1", b"9" * 4400, b"[" * 3000, b", ",
    b"{", b"}", b'"2026-01-01T00:00:00.000Z"', b'"host": "x"', b'"pidNamespace": 1', _SEPARATOR,
)  # fmt: skip
