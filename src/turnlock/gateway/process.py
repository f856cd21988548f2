"""The gateway as a program: its logging, its signals, and an end that nothing can hold up."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..config import Config, default_config, load_config
from ..printable import PrintableFormatter
from .attendant import Attendant
from .descriptors import Seldom, raise_limit
from .log import LAST_LINES, Log
from .notify import Notifier
from .reloading import Reload
from .server import Stop, serve

# Names of hosts are looked up in threads, and a look-up that hangs keeps its own: one host that is
# lost would soon have all of the few that the interpreter's default pool has.
_LOOKUPS = 1000
# Tasks that ignore their cancellation are given this long before the process leaves without them.
_LAST_TASKS = 0.5
_LAST_THREADS = 0.5
# What asyncio complains of when no descriptor is left for a connection, and when the listener takes
# none any more: whoever shut it down, it tells its loop that there is something to accept.
_NO_ACCEPT = ("socket.accept() out of system resource", "._accept_connection(")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

logger = logging.getLogger("turnlock")


def run(
    *,
    state_dir: str,
    store_url: str | None = None,
    config_path: str | None,
    host: str | None,
    port: int | None,
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, drain, and return; a second signal hastens it.

    ``store_url``: the database of the sessions, if they are not in the state directory. SIGHUP has
    the configuration read again. ``host`` and ``port`` override the configuration; port
    0 takes a free one. ``announce`` gets the url once requests are served. Logs go to stderr, and
    hold nothing up where nobody reads them. The soft limit of open files is raised to the hard one.
    To be called on the main thread.

    Raises `AlreadyServed` when another gateway has the state directory, `ConfigError` for a
    configuration or a token that cannot be used, and `StoreError` for a state directory or an
    address that cannot be had. The process ends here, with exit code 0, when all is done but a
    thread or a task would keep it, and when it is not done 8 s after the time to drain.
    """
    _log_to_stderr()
    raise_limit()

    def load() -> Config:
        config = load_config(config_path) if config_path is not None else default_config()
        return _overridden(config, host, port)

    path = config_path or "(no configuration file)"
    _run_to_the_end(_serve(load(), load, state_dir, announce, path, store_url))


async def _serve(
    config: Config,
    load: Callable[[], Config],
    state_dir: str,
    announce: Callable[[str], None],
    path: str,
    store_url: str | None,
) -> None:
    stop, reload, notifier = Stop(), Reload(load), Notifier(os.environ)
    # Modules and what they made stay until the end: every full collection would walk them again,
    # and no turn moves on meanwhile.
    gc.freeze()
    with (
        Attendant(
            asyncio.get_running_loop(),
            stop=stop.wish,
            reload=reload.wish,
            drain=lambda: stop.drain,
        ),
        notifier.living(),
    ):
        await serve(
            config,
            state_dir,
            announce,
            stop=stop,
            reload=reload,
            path=path,
            store_url=store_url,
            tell=notifier.tell,
        )


def _run_to_the_end(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, but for what it waits for at the end: without limit, on every task left."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS))
    loop.set_exception_handler(_Complaints())
    try:
        loop.run_until_complete(main)
        left = _cancel_all(loop)
    finally:
        loop.close()
        # Before the error too, which who called tells.
        is_log_stuck = _is_log_stuck()
    if is_log_stuck:
        # The interpreter would wait for it at its end, and there is nobody to tell.
        os._exit(0)
    if left or _threads_that_hold_up():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Complaints:
    """The loop's. That no connection can be accepted it says hundreds of times a second."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = str(context.get("message"))
        if not any(text in message for text in _NO_ACCEPT):
            loop.default_exception_handler(context)
        elif self._seldom.is_time(loop.time()):
            logger.error("no connection can be accepted: %s", context.get("exception"))


def _cancel_all(loop: asyncio.AbstractEventLoop) -> bool:
    """Cancel what still runs; whether some of it goes on."""
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return False
    for task in tasks:
        task.cancel()
    _, left = loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST_TASKS))
    return bool(left)


def _threads_that_hold_up() -> bool:
    """Whether threads are left that the interpreter would join: a name look-up that hangs."""
    here = threading.current_thread()
    others = [one for one in threading.enumerate() if one is not here and not one.daemon]
    for thread in others:
        thread.join(_LAST_THREADS / len(others))
    return any(thread.is_alive() for thread in others)


def _is_log_stuck() -> bool:
    """Whether what was logged cannot be written: the reader of its pipe reads no more."""
    logs = [one for one in logging.getLogger().handlers if isinstance(one, Log)]
    return not all(log.written(LAST_LINES) for log in logs)


def _overridden(config: Config, host: str | None, port: int | None) -> Config:
    settings = config.gateway
    if host is not None:
        settings = settings._replace(host=host)
    if port is not None:
        settings = settings._replace(port=port)
    return config._replace(gateway=settings)


def _log_to_stderr() -> None:
    # Where every thread was, should a supervisor's watchdog end the process by SIGABRT.
    faulthandler.enable()
    log = Log(sys.stderr)
    log.setFormatter(PrintableFormatter(_FORMAT))
    logging.basicConfig(handlers=[log], level=logging.WARNING)
    # Else they are written to stderr by who warns, past the log.
    logging.captureWarnings(True)
    logging.getLogger("turnlock").setLevel(logging.INFO)
    # A client that sends no HTTP is its own problem, and would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
