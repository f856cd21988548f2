"""What the gateway itself keeps in the state directory: its token, and where it listens."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator

from ..clock import Clock, SystemClock, iso
from ..doctor.condition import PRESENCE_FILE
from ..doctor.live import checked_token
from ..errors import StoreError

logger = logging.getLogger("turnlock")

TOKEN_VARIABLE = "TURNLOCK_TOKEN"
TOKEN_FILE = "token"
_TEMPORARY = ".gateway-"
_TOKEN_BYTES_MAX = 4096


def make_directory(state_dir: str) -> None:
    """Make the state directory, mode 0700, unless it is there. Raises `StoreError`."""
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(state_dir, "make", error.strerror or str(error)) from error


def load_token(state_dir: str) -> str:
    """The bearer token: of ``$TURNLOCK_TOKEN``, else of ``<state-dir>/token``, else a new one.

    A new one is written to that file, mode 0600. Raises `ConfigError` for a token that no header
    can carry and `StoreError` for a file that cannot be read or made.
    """
    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return checked_token(given, f"${TOKEN_VARIABLE}")
    path = os.path.join(state_dir, TOKEN_FILE)
    try:
        token = _read(path)
        if token is None:
            _create(path, secrets.token_urlsafe(32))
            token = _read(path) or ""
    except OSError as error:
        raise StoreError(path, "read the token of", error.strerror or str(error)) from error
    return checked_token(token, path)


@contextlib.contextmanager
def present(state_dir: str, url: str, clock: Clock | None = None) -> Iterator[None]:
    """Keep ``<state-dir>/gateway.json`` for as long as the block runs: pid, url, started.

    Raises `StoreError` when it cannot be written.
    """
    path = os.path.join(state_dir, PRESENCE_FILE)
    started = iso((clock or SystemClock()).wall())
    # "v" tells that its writer has the directory's lock, and so is gone when nobody has it.
    said = {"pid": os.getpid(), "url": url, "started": started, "v": 1}
    try:
        replace(path, f"{json.dumps(said, indent=2)}\n")
    except OSError as error:
        raise StoreError(path, "write", error.strerror or str(error)) from error
    try:
        yield
    finally:
        _remove_own(path)


def replace(path: str, text: str, *, durable: bool = True) -> None:
    """Put a file, mode 0600, at a path in one step, whatever is there. Raises OSError."""
    made = _temporary(os.path.dirname(path), text, durable=durable)
    try:
        os.replace(made, path)
    except OSError:
        os.unlink(made)
        raise


def remove_strays(state_dir: str) -> None:
    """Remove the temporary files of gateways that died. Only for who owns the directory."""
    with contextlib.suppress(OSError):
        for name in os.listdir(state_dir):
            if name.startswith(_TEMPORARY):
                os.unlink(os.path.join(state_dir, name))


def _read(path: str) -> str | None:
    """The token in the file; None when there is no file."""
    try:
        # Not through a link, and without waiting for the writer of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a regular file")
        if stat.S_IMODE(found.st_mode) & 0o077:
            logger.warning("%s was open to other users; make a new token if any had access", path)
            os.fchmod(descriptor, 0o600)
        return file.read(_TOKEN_BYTES_MAX).decode("latin-1").strip()


def _create(path: str, token: str) -> None:
    """Make the file whole; when another gateway has just made it, that one's stays."""
    made = _temporary(os.path.dirname(path), f"{token}\n")
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(made)


def _temporary(directory: str, text: str, *, durable: bool = True) -> str:
    descriptor, path = tempfile.mkstemp(prefix=_TEMPORARY, dir=directory)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(descriptor)
    return path


def _remove_own(path: str) -> None:
    """Remove the file unless another gateway has put its own there."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_TOKEN_BYTES_MAX))
        if isinstance(found, dict) and found.get("pid") == os.getpid():
            os.unlink(path)
    except (OSError, ValueError) as error:
        logger.warning("%s was not removed: %s", path, error)
