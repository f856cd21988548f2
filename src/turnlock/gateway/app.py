"""The routes: which handler answers which operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from . import compatible
from .access import Access
from .errors import ClientLeft, Refusal
from .native.call import Call
from .native.description import describe
from .native.entries import append_entries
from .native.events import listen
from .native.locks import list_locks
from .native.release import release
from .native.sessions import get_session, list_sessions
from .native.statistics import get_statistics
from .native.transcript import read_transcript
from .operations import OPERATIONS, Operation
from .service import Gateway

Handler = Callable[[Call], Awaitable[ASGIApp]]

HANDLERS: Mapping[str, Handler] = {
    "health": compatible.health,
    "describe": describe,
    "listModels": compatible.models,
    "getModel": compatible.model,
    "createChatCompletion": compatible.chat,
    "listSessions": list_sessions,
    "getSession": get_session,
    "readTranscript": read_transcript,
    "releaseSession": release,
    "appendEntries": append_entries,
    "listLocks": list_locks,
    "getStatistics": get_statistics,
    "listenToEvents": listen,
}


def create_app(gateway: Gateway, *, token: str) -> ASGIApp:
    """The gateway's ASGI application. Every route but ``/healthz`` wants the token."""
    app = Starlette(
        routes=[_route(gateway, operation) for operation in OPERATIONS],
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
        _AsSent(app),
        token=token,
        hosts=(settings.host, *settings.allowed_hosts),
        origins=settings.allowed_origins,
    )


def _route(gateway: Gateway, operation: Operation) -> Route:
    handler = HANDLERS[operation.name]

    async def endpoint(request: Request) -> ASGIApp:
        query = operation.asked(request.scope["query_string"]) if operation.is_native else {}
        return await handler(Call(gateway, request, query))

    return Route(operation.route, endpoint, methods=[operation.method])


class _AsSent:
    """Has the routes of sessions see the path as it was sent: ``%2f`` ends no part of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/sessions"):
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await self._app(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        text = f"{request.method[:20]!r} is not for this path"
        return Refusal("method_not_allowed", text, headers=error.headers).response()
    return Refusal("unknown_url", "there is no such path").response()


async def _client_left(request: Request, error: Exception) -> Response:
    # Nobody reads it; the server wants an answer all the same.
    return Response(status_code=499)


async def _failed(request: Request, error: Exception) -> Response:
    # The server logs the error itself.
    return Refusal("internal_error", "the gateway failed; its log says how").response()
