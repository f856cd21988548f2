"""``GET /openapi.json``: what is here, for programs."""

from __future__ import annotations

from starlette.responses import Response

from ..openapi import document
from .call import Call, answer


async def describe(call: Call) -> Response:
    return answer(document())
