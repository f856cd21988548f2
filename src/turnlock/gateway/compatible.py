"""OpenAI's routes, and the health check."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from .agents import Agent
from .body import read_object
from .chat import ChatRequest, parse_chat
from .completion import Paper
from .conversation import repetition, session_of
from .native.call import Call, answer
from .service import Gateway, Where
from .sse import Answer

_SESSION_HEADERS = ("x-turnlock-session", "x-openclaw-session-key")


async def health(call: Call) -> Response:
    if call.gateway.is_stopping:
        return answer({"status": "draining", "ready": False}, 503, connection="close")
    return answer({"status": "ok", "ready": True})


async def models(call: Call) -> Response:
    gateway = call.gateway
    listed = [_described(agent, gateway) for agent in gateway.agents.values()]
    return answer({"object": "list", "data": listed})


async def model(call: Call) -> Response:
    agent = call.gateway.agent(call.request.path_params["model"])
    return answer(_described(agent, call.gateway))


async def chat(call: Call) -> Answer:
    gateway, request = call.gateway, call.request
    gateway.check_open()
    body = await gateway.unless_stopping(
        read_object(
            request, limit=gateway.config.gateway.max_body_bytes, patience=gateway.pace.body
        )
    )
    wanted = parse_chat(body)
    agent = gateway.agent(wanted.model)
    exchange = gateway.begin(wanted, agent, _where(call, wanted, agent))
    return Answer(
        exchange,
        Paper(exchange.identity, int(gateway.clock.wall()), wanted.model),
        gateway.pace,
        stream=wanted.stream,
        include_usage=wanted.include_usage,
    )


def _where(call: Call, chat: ChatRequest, agent: Agent) -> Where:
    named = next(
        (value for name in _SESSION_HEADERS if (value := call.header(name)) is not None),
        chat.user,
    )
    retries = call.request.headers.get("x-stainless-retry-count")
    repeated = repetition(call.header("idempotency-key"), retries)
    session = None if named is None else session_of(named, agent.name)
    return Where(session, repeated, call.client)


def _described(agent: Agent, gateway: Gateway) -> dict[str, Any]:
    return {
        "id": agent.name,
        "object": "model",
        "created": int(gateway.started),
        "owned_by": "turnlock",
    }
