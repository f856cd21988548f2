"""The gateway as a server: own, clean up, announce, drain, stop, each once and in this order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from ..config import Config
from ..doctor.condition import Stage
from ..errors import TurnlockError
from ..store import Store, open_store
from ..turns.aio import on_worker
from .agents import Agent, OpenAgents, model_keys
from .app import create_app
from .pace import Pace
from .reclaiming import reclaiming
from .reloading import Reload, Reloader
from .service import Gateway
from .state import load_token, make_directory, present
from .web import Door, Web, bound, url_of

logger = logging.getLogger("turnlock")


class Stop:
    """A wish to stop, from a signal or a test. Wished twice: without patience.

    ``drain``: how long the gateway means to take for its end, in seconds.
    """

    def __init__(self) -> None:
        self.wished = asyncio.Event()
        self.hastened = asyncio.Event()
        self.drain = 0.0

    def wish(self) -> None:
        (self.hastened if self.wished.is_set() else self.wished).set()


async def serve(
    config: Config,
    state_dir: str,
    announce: Callable[[str], None],
    *,
    stop: Stop | None = None,
    reload: Reload | None = None,
    agents: Mapping[str, Agent] | None = None,
    path: str = "",
    store_url: str | None = None,
    pace: Pace | None = None,
    tell: Callable[[Stage], object] = lambda stage: None,
) -> None:
    """Serve until ``stop`` is wished or the task is cancelled.

    ``announce`` gets the url when requests are served; until then they are answered with 503.
    ``agents`` serve in place of those that the configuration names, and stay the caller's.
    ``reload`` has the configuration read again when it is wished. ``path`` names the configuration
    in errors. ``store_url``: where the sessions are, if not in the state directory. ``tell`` is
    told every stage that begins, on the event loop.

    Raises `AlreadyServed` when another gateway has the state directory, of this process or of any
    other; `ConfigError` for a model or a token that cannot be used; and `StoreError` for a state
    directory or an address that cannot.
    """
    stop = stop or Stop()
    stop.drain = config.limits.drain
    pace = pace or Pace()
    keys = model_keys(config, path) if agents is None else {}
    store = open_store(store_url or state_dir, limits=config.limits)
    make_directory(state_dir)
    # Not at the top: where there is no flock, the store has said so by now.
    from .owning import own

    async with AsyncExitStack() as stack:
        # On a worker: the other gateway may be one of this loop, and is asked.
        owned = await on_worker(lambda: own(state_dir))
        stack.callback(owned.close)
        tell(Stage.STARTING)
        token = load_token(state_dir)
        known = (token, *keys.values())
        store.keep_secret(*known)
        listener = stack.enter_context(bound(config.gateway.host, config.gateway.port))
        door = Door()
        web = Web(door, listener, pace)
        stack.push_async_callback(web.close)
        await web.start()
        if not await _unless_stopped(stop, on_worker(lambda: _clean_up(store))):
            return
        opened = OpenAgents(path) if agents is None else None
        if opened is not None:
            stack.push_async_callback(opened.close)
            if not await _unless_stopped(stop, opened.load(config, keys)):
                return
            agents = opened.agents
        assert agents is not None
        gateway = Gateway(config, store, agents, known_secrets=known, pace=pace)
        # On the way out turns end first, so that their clients can still be told.
        stack.push_async_callback(gateway.close)
        door.open(create_app(gateway, token=token))
        url = url_of(listener)
        owned.say(Stage.SERVING, url)
        with present(state_dir, url):
            announce(url)
            tell(Stage.SERVING)
            reloader = Reloader(gateway, opened, path, tell)
            async with reloader.at_wish(reload, stop), reclaiming(store, pace.reclaim):
                await web.until(stop.wished)
            tell(Stage.DRAINING)
            # Not awaited: a disk that hangs does not hold up the end.
            on_worker(lambda: owned.say(Stage.DRAINING, url))
            await gateway.drain(stop.hastened)
            await web.close()


async def _unless_stopped(stop: Stop, work: Awaitable[None]) -> bool:
    """Wait for a step of the start; False, and without it, when a stop is wished meanwhile."""
    working = asyncio.ensure_future(work)
    wished = asyncio.ensure_future(stop.wished.wait())
    try:
        await asyncio.wait((working, wished), return_when=asyncio.FIRST_COMPLETED)
    finally:
        wished.cancel()
        working.cancel()
    # A step that was cancelled closes what it has made by now, before anything else is closed.
    await asyncio.wait((working,))
    if working.cancelled():
        return False
    working.result()
    return not stop.wished.is_set()


def _clean_up(store: Store) -> None:
    """Remove what dead holders left. What cannot be cleaned up stops no start."""
    try:
        cleaned = store.clean_stale()
    except TurnlockError as error:
        logger.warning("the start-up clean-up failed: %s", error)
        return
    removed = sum(lock.removed for lock in cleaned)
    logger.info("start-up clean-up: %d locks, %d stale ones removed", len(cleaned), removed)
