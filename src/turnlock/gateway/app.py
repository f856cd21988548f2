"""The routes: OpenAI's chat completions and models, and a health check."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .access import HEALTH, Access
from .agents import Agent
from .body import read_object
from .chat import ChatRequest, parse_chat
from .completion import Paper
from .conversation import repetition, session_of
from .errors import ClientLeft, Refusal, bad_request
from .service import Gateway, Where
from .sse import Answer

_SESSION_HEADERS = ("x-turnlock-session", "x-openclaw-session-key")


def create_app(gateway: Gateway, *, token: str) -> ASGIApp:
    """The gateway's ASGI application. Every route but ``/healthz`` wants the token."""
    routes = _Routes(gateway)
    app = Starlette(
        routes=[
            Route(HEALTH, routes.health, methods=["GET"]),
            Route("/v1/models", routes.models, methods=["GET"]),
            Route("/v1/models/{model:path}", routes.model, methods=["GET"]),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
        ],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _no_route,
            ClientLeft: _client_left,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    settings = gateway.config.gateway
    return Access(
        app,
        token=token,
        hosts=(settings.host, *settings.allowed_hosts),
        origins=settings.allowed_origins,
        is_stopping=lambda: gateway.is_stopping,
    )


class _Routes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._started = int(gateway.clock.wall())

    async def health(self, request: Request) -> Response:
        if self._gateway.is_stopping:
            headers = {"connection": "close"}
            return JSONResponse({"status": "draining", "ready": False}, 503, headers)
        return JSONResponse({"status": "ok", "ready": True})

    async def models(self, request: Request) -> Response:
        listed = [self._describe(agent) for agent in self._gateway.agents.values()]
        return JSONResponse({"object": "list", "data": listed})

    async def model(self, request: Request) -> Response:
        return JSONResponse(self._describe(self._gateway.agent(request.path_params["model"])))

    async def chat(self, request: Request) -> Answer:
        gateway = self._gateway
        body = await read_object(
            request, limit=gateway.config.gateway.max_body_bytes, patience=gateway.pace.body
        )
        chat = parse_chat(body)
        agent = gateway.agent(chat.model)
        exchange = gateway.begin(chat, agent, _where(request, chat, agent))
        return Answer(
            exchange,
            Paper(exchange.identity, int(gateway.clock.wall()), chat.model),
            gateway.pace,
            stream=chat.stream,
            include_usage=chat.include_usage,
        )

    def _describe(self, agent: Agent) -> dict[str, object]:
        return {
            "id": agent.name,
            "object": "model",
            "created": self._started,
            "owned_by": "turnlock",
        }


def _where(request: Request, chat: ChatRequest, agent: Agent) -> Where:
    named = next(
        (value for name in _SESSION_HEADERS if (value := _header(request, name)) is not None),
        chat.user,
    )
    repeated = repetition(
        _header(request, "idempotency-key"), request.headers.get("x-stainless-retry-count")
    )
    return Where(None if named is None else session_of(named, agent.name), repeated)


def _header(request: Request, name: str) -> str | None:
    """A header's only value as text. Raises `Refusal` for two, an empty one, and bytes of none."""
    wanted = name.encode()
    values = [value for key, value in request.headers.raw if key == wanted]
    if not values:
        return None
    if len(values) > 1 or not values[0].strip():
        raise bad_request(f"the header {name} has to be there once, with a value", param=name)
    try:
        return values[0].decode()
    except UnicodeDecodeError:
        raise bad_request(f"the header {name} is not UTF-8", param=name) from None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        text = f"{request.method[:20]!r} is not for this path"
        return Refusal(405, "method_not_allowed", text, headers=error.headers).response()
    return Refusal(error.status_code, "unknown_url", "there is no such path").response()


async def _client_left(request: Request, error: Exception) -> Response:
    # Nobody reads it; the server wants an answer all the same.
    return Response(status_code=499)


async def _failed(request: Request, error: Exception) -> Response:
    # The server logs the error itself.
    return Refusal(500, "internal_error", "the gateway failed; its log says how").response()
