"""Reading the configuration again, while turns run.

A turn keeps what it began with: its limits, its agent, its model. What is new counts for the turns
that begin from then on. A configuration that cannot be used changes nothing. What a gateway has
only once, its address and who may reach it, waits for the next start, and that is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..doctor.condition import Stage
from ..errors import TurnlockError
from ..limits import LIMIT_NAMES
from ..turns.aio import on_worker
from .agents import OpenAgents, model_keys
from .service import Gateway

if TYPE_CHECKING:
    from .server import Stop

logger = logging.getLogger("turnlock")

# Of [gateway]; the rest of it takes effect.
_FIXED = ("host", "port", "allowed_hosts", "allowed_origins")


class Reload:
    """A wish to read the configuration again. ``load`` does, and raises `ConfigError`.

    Wishes that come while one is being granted are one wish.
    """

    def __init__(self, load: Callable[[], Config]) -> None:
        self.load = load
        self.wished = asyncio.Event()

    def wish(self) -> None:
        self.wished.set()


class Reloader:
    """``opened`` is None for agents that are not the configuration's: those stay."""

    def __init__(
        self,
        gateway: Gateway,
        opened: OpenAgents | None,
        path: str,
        tell: Callable[[Stage], object],
    ) -> None:
        self._gateway = gateway
        self._opened = opened
        self._path = path
        self._tell = tell

    @contextlib.asynccontextmanager
    async def at_wish(self, reload: Reload | None, stop: Stop) -> AsyncIterator[None]:
        """Grant the wishes for as long as the block runs."""
        if reload is None:
            yield
            return
        granting = asyncio.create_task(self._grant(reload, stop), name="reload")
        try:
            yield
        finally:
            granting.cancel()
            await asyncio.wait((granting,))

    async def _grant(self, reload: Reload, stop: Stop) -> None:
        while True:
            await reload.wished.wait()
            reload.wished.clear()
            self._tell(Stage.RELOADING)
            try:
                await self._reload(reload.load)
            except TurnlockError as error:
                logger.error("the configuration was not reloaded, the old one stays: %s", error)
            except Exception:
                logger.exception("the configuration was not reloaded, the old one stays")
            stop.drain = self._gateway.config.limits.drain
            self._tell(Stage.SERVING)

    async def _reload(self, load: Callable[[], Config]) -> None:
        gateway = self._gateway
        old, wanted = gateway.config, await on_worker(load)
        new = wanted._replace(gateway=_with(wanted.gateway, _FIXED, old.gateway))
        agents, keys = gateway.agents, {}
        if self._opened is not None:
            keys = model_keys(new, self._path)
            # Before a model has its key: nothing that it says may tell it.
            gateway.keep_secret(*keys.values())
            await self._opened.load(new, keys, gateway.until_unused)
            agents = self._opened.agents
        gateway.reconfigure(new, agents)
        logger.info("the configuration was reloaded: %s", _list(changes(old, new)) or "no change")
        fixed = _list(_differences(wanted.gateway, old.gateway, _FIXED))
        if fixed:
            logger.warning("what changes only with a restart of the gateway: %s", fixed)


def changes(old: Config, new: Config) -> list[str]:
    """What differs, by its names in the file."""
    return [
        *_differences(new.gateway, old.gateway, new.gateway._fields),
        *_differences(new.limits, old.limits, LIMIT_NAMES),
        *_of_tables("models", old.models, new.models),
        *_of_tables("agents", old.agents, new.agents),
    ]


def _differences(new: Any, old: Any, names: Iterable[str]) -> list[str]:
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in names)
    return [f"{name} = {now!r} (was {before!r})" for name, before, now in pairs if now != before]


def _of_tables(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    # Not their values: instructions are long, and an address may hold a secret.
    different = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [f"[{kind}.{name}] {_became(name, old, new)}" for name in different]


def _became(name: str, old: Mapping[str, object], new: Mapping[str, object]) -> str:
    if name not in old:
        return "is new"
    return "changed" if name in new else "is gone"


def _with(settings: Any, names: Iterable[str], other: Any) -> Any:
    """``settings``, but of these names the values of ``other``."""
    return settings._replace(**{name: getattr(other, name) for name in names})


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)
