"""Transports for httpx whose calls belong to the current turn.

::

    client = httpx.AsyncClient(transport=turnlock.integrations.httpx.AsyncGuardedTransport())

A client that exists already is guarded by `turnlock.guard`. What a guarded call is:
`turnlock.integrations.transport`.
"""

import httpx

from .transport import async_transport, sync_transport

__all__ = ["AsyncGuardedTransport", "GuardedTransport"]

GuardedTransport = sync_transport(httpx)
AsyncGuardedTransport = async_transport(httpx)
