"""The contrast: a session behind an ordinary lock file, with every liveness check that is usual.

The lock file is made with ``O_EXCL`` and holds the pid; its holder renews its time stamp from a
thread, and answers a health check over HTTP. A waiter takes the lock over when the pid is gone or
the time stamp is old. That is what lock-file libraries do, done right, and it does not help:
process, heart-beat and health check all live, and only the one call that holds the lock does not.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from ..clock import SystemClock
from .reports import tell

HEARTBEAT = 0.25
# A lock file whose time stamp is older than this would be taken over; the usual default.
STALE = 10.0
_POLL = 0.25
_HEALTH_TIMEOUT = 10.0
_clock = SystemClock()


class Checks(NamedTuple):
    """What the usual checks say of a holder. ``heartbeat`` is its age in seconds, ``health`` the
    status of its health check, 0 for none."""

    pid_alive: bool
    heartbeat: float
    health: int

    @property
    def healthy(self) -> bool:
        return self.pid_alive and self.heartbeat < STALE and self.health == 200


def naive_holder(
    *, ask: Callable[..., str], lock: str, transcript: str, url: str, text: str
) -> None:
    """Take the lock file and ask the model, which hangs."""
    health = ThreadingHTTPServer(("127.0.0.1", 0), _Health)
    threading.Thread(target=health.serve_forever, daemon=True).start()
    claim = {"pid": os.getpid(), "port": health.server_port}
    if not take(lock, claim):
        raise RuntimeError(f"{lock} is there already")
    threading.Thread(target=_beat, args=(lock,), daemon=True).start()
    try:
        message = {"role": "user", "content": text}
        _append(transcript, message)
        tell("asking")
        reply = ask(url, [message], mode="hang")
        _append(transcript, {"role": "assistant", "content": reply})
    finally:
        os.unlink(lock)


def naive_waiter(*, lock: str, wait: float) -> None:
    """Try to take the lock file until the wait limit; look each time whether its holder lives."""
    began = _clock.monotonic()
    tries = healthy = 0
    while not take(lock, {"pid": os.getpid()}):
        tries += 1
        seen = check(lock)
        healthy += seen.healthy
        waited = _clock.monotonic() - began
        tell("looked", waited=waited, healthy=seen.healthy, **seen._asdict())
        if waited >= wait:
            tell("gave-up", waited=waited, tries=tries, healthy=healthy)
            return
        if not seen.healthy:
            os.unlink(lock)
        else:
            _clock.sleep(_POLL)
    tell("took", waited=_clock.monotonic() - began)


def take(lock: str, claim: dict[str, Any]) -> bool:
    """Make the lock file; whether it was not there."""
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with open(descriptor, "w") as file:
        json.dump(claim, file)
    return True


def check(lock: str) -> Checks:
    """Everything that can be asked about the holder of a lock file."""
    with open(lock) as file:
        claim = json.load(file)
    age = _clock.wall() - os.stat(lock).st_mtime
    return Checks(_is_alive(claim["pid"]), age, _health(claim["port"]))


def _health(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_HEALTH_TIMEOUT)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _beat(lock: str) -> None:
    while True:
        _clock.sleep(HEARTBEAT)
        os.utime(lock)


def _append(transcript: str, message: dict[str, str]) -> None:
    with open(transcript, "a") as file:
        file.write(json.dumps(message) + "\n")
        file.flush()
        os.fsync(file.fileno())


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}\n')

    def log_message(self, format: str, *args: object) -> None:
        pass
