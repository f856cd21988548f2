"""A request as a native route gets it, and the JSON that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from ...errors import InvalidSessionKey
from ...session import SessionKey, is_part, parse_key
from ..body import has_body, read_object
from ..errors import Refusal, bad_request
from ..jsonout import to_json
from ..service import Gateway


class Call(NamedTuple):
    """``query``: the parameters that were given, checked."""

    gateway: Gateway
    request: Request
    query: Mapping[str, Any]

    def session(self) -> SessionKey:
        """The session that the path names. Raises `Refusal`.

        The parts are as they were sent: ``%2f`` is a character of a part, and not the end of it.
        """
        agent, name = (_decoded(self.request.path_params, part) for part in ("agent", "name"))
        try:
            return parse_key(f"{agent}/{name}")
        except InvalidSessionKey as error:
            wrong = "name" if is_part(agent) else "agent"
            raise Refusal("invalid_session_key", str(error), param=wrong) from None

    @property
    def client(self) -> str | None:
        """Where the request comes from: ``host:port``."""
        address = self.request.client
        return None if address is None else f"{address.host}:{address.port}"

    def header(self, name: str) -> str | None:
        """A header's only value as text. Raises `Refusal` for two, an empty one, and no UTF-8."""
        wanted = name.encode()
        values = [value for key, value in self.request.headers.raw if key == wanted]
        if not values:
            return None
        if len(values) > 1 or not values[0].strip():
            raise bad_request(f"the header {name} has to be there once, with a value", param=name)
        try:
            return values[0].decode()
        except UnicodeDecodeError:
            raise bad_request(f"the header {name} is not UTF-8", param=name) from None

    async def body(self, *known: str, may_be_missing: bool = False) -> dict[str, Any]:
        """The request's JSON object, with no other members than those. Raises `Refusal`."""
        if may_be_missing and not has_body(self.request):
            return {}
        found = await read_object(
            self.request,
            limit=self.gateway.config.gateway.max_body_bytes,
            patience=self.gateway.pace.body,
        )
        for name in found:
            if name not in known:
                shown = f"{name[:100]!r} is not known here; known are {', '.join(known)}"
                raise bad_request(shown, param=name[:100])
        return found


def answer(value: object, status: int = 200, **headers: str) -> Response:
    return json_answer(to_json(value), status, **headers)


def json_answer(text: str, status: int = 200, **headers: str) -> Response:
    headers = {"cache-control": "no-store", **headers}
    return Response(text, status, headers, media_type="application/json")


def _decoded(sent: Mapping[str, str], part: str) -> str:
    try:
        return unquote_to_bytes(sent[part]).decode()
    except UnicodeDecodeError:
        text = f"the {part} in the path, {sent[part][:200]!r}, is not UTF-8"
        raise Refusal("invalid_session_key", text, param=part) from None
