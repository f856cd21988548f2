"""Agents with their models, as the configuration names them."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from ..config import PRACTICE, Config, ModelSettings
from ..errors import ConfigError, LimitsError, StoreError
from ..models import Model
from ..turns.aio import on_worker


class Agent(NamedTuple):
    """Who answers: a model, and what it is told first."""

    name: str
    model: Model
    instructions: str


def model_keys(config: Config, path: str) -> dict[str, str]:
    """The API key of every model that an agent uses and that has one, by the model's name.

    The embedded practice model gets a key of its own, made up now. ``path`` stands in the
    `ConfigError` for a key whose variable is not set.
    """
    keys = {}
    for name in _used(config):
        settings = config.models[name]
        if _is_embedded(settings):
            keys[name] = f"practice-{secrets.token_urlsafe(24)}"
        elif settings.api_key_env:
            key = os.environ.get(settings.api_key_env)
            if not key:
                raise ConfigError(
                    path, f"[models.{name}]: the variable {settings.api_key_env} is not set"
                )
            keys[name] = key
    return keys


class _Opened(NamedTuple):
    """A model, with what it was made of and what closes it."""

    settings: ModelSettings
    key: str | None
    model: Model
    stack: AsyncExitStack

    def serves(self, settings: ModelSettings, key: str | None) -> bool:
        """Whether these settings would make the same model again."""
        return self.settings == settings and (_is_embedded(settings) or self.key == key)


class OpenAgents:
    """The agents of a configuration, with the models that they share and, where one is needed, the
    practice model's server. Belongs to the running event loop.

    Another configuration may be loaded at any time: a model that it has as well stays the same
    one, and one that it has no more is closed when nobody uses it.
    """

    def __init__(self, path: str = "") -> None:
        self.agents: Mapping[str, Agent] = {}
        self._path = path
        self._models: dict[str, _Opened] = {}
        self._replaced: dict[asyncio.Task[None], _Opened] = {}

    async def load(
        self,
        config: Config,
        keys: Mapping[str, str],
        until_unused: Callable[[Model], Awaitable[object]] | None = None,
    ) -> None:
        """Open what is not open, and take the agents of this configuration in place of the others.

        ``keys`` are those of `model_keys`. A model that is replaced is closed once ``until_unused``
        has returned for it. Raises `ConfigError` for a model that cannot be used; then nothing has
        changed.
        """
        kept, made = {}, AsyncExitStack()
        async with made:
            models = {}
            for name in _used(config):
                settings, key = config.models[name], keys.get(name)
                old = self._models.get(name)
                if old is not None and old.serves(settings, key):
                    kept[name] = models[name] = old
                    continue
                models[name] = one = await self._open(name, settings, key)
                made.push_async_callback(one.stack.aclose)
            made.pop_all()
        replaced = [one for name, one in self._models.items() if name not in kept]
        self._models = models
        self.agents = {
            name: Agent(name, models[agent.model].model, agent.instructions)
            for name, agent in config.agents.items()
        }
        for one in replaced:
            self._replace(one, until_unused)

    async def close(self) -> None:
        """Close every model, used or not."""
        replaced, self._replaced = self._replaced, {}
        for task in replaced:
            task.cancel()
        models, self._models = self._models, {}
        for one in (*models.values(), *replaced.values()):
            await one.stack.aclose()

    def _replace(
        self, one: _Opened, until_unused: Callable[[Model], Awaitable[object]] | None
    ) -> None:
        async def close_when_unused() -> None:
            if until_unused is not None:
                await until_unused(one.model)
            if self._replaced.pop(task, None) is not None:
                await one.stack.aclose()

        task = asyncio.create_task(close_when_unused(), name="close a replaced model")
        self._replaced[task] = one

    async def _open(self, name: str, settings: ModelSettings, key: str | None) -> _Opened:
        from ..models.opening import open_model

        async with AsyncExitStack() as stack:
            base_url = settings.base_url
            if _is_embedded(settings):
                base_url = await _practice(stack, key)
            try:
                # In a thread: some providers' libraries take seconds to import.
                model = await on_worker(
                    lambda: open_model(settings.provider, base_url, settings.model, key)
                )
            except (ValueError, LimitsError, ModuleNotFoundError) as error:
                raise ConfigError(self._path, f"[models.{name}]: {error}") from None
            stack.push_async_callback(model.aclose)
            return _Opened(settings, key, model, stack.pop_all())


@asynccontextmanager
async def open_agents(
    config: Config, keys: Mapping[str, str], path: str = ""
) -> AsyncIterator[Mapping[str, Agent]]:
    """Every agent with its model, for as long as the block runs: see `OpenAgents.load`."""
    opened = OpenAgents(path)
    try:
        await opened.load(config, keys)
        yield opened.agents
    finally:
        await opened.close()


async def _practice(stack: AsyncExitStack, key: str | None) -> str:
    from ..practice import PracticeServer

    try:
        server = await stack.enter_async_context(PracticeServer(api_key=key))
    except OSError as error:
        raise StoreError("127.0.0.1", "listen", f"the practice model cannot: {error}") from error
    return server.url


def _used(config: Config) -> list[str]:
    return sorted({agent.model for agent in config.agents.values()})


def _is_embedded(settings: ModelSettings) -> bool:
    return settings.provider == PRACTICE and settings.base_url is None
