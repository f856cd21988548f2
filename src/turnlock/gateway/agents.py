"""Agents with their models, as the configuration names them."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Mapping
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


@asynccontextmanager
async def open_agents(
    config: Config, keys: Mapping[str, str], path: str = ""
) -> AsyncIterator[Mapping[str, Agent]]:
    """Every agent with its model, and the practice model's server where one is needed.

    ``keys`` are those of `model_keys`. Raises `ConfigError` for a model that cannot be used.
    """
    async with AsyncExitStack() as stack:
        models = {}
        for name in _used(config):
            model = await _open_model(stack, name, config.models[name], keys.get(name), path)
            stack.push_async_callback(model.aclose)
            models[name] = model
        yield {
            name: Agent(name, models[agent.model], agent.instructions)
            for name, agent in config.agents.items()
        }


async def _open_model(
    stack: AsyncExitStack, name: str, settings: ModelSettings, key: str | None, path: str
) -> Model:
    from ..models.opening import open_model

    base_url = settings.base_url
    if _is_embedded(settings):
        base_url = await _practice(stack, key)
    try:
        # In a thread: some providers' libraries take seconds to import.
        return await on_worker(lambda: open_model(settings.provider, base_url, settings.model, key))
    except (ValueError, LimitsError, ModuleNotFoundError) as error:
        raise ConfigError(path, f"[models.{name}]: {error}") from None


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
