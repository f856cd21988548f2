"""Transports for httpx2 whose calls belong to the current turn.

::

    client = httpx2.AsyncClient(transport=turnlock.integrations.httpx2.AsyncGuardedTransport())

A client that exists already is guarded by `turnlock.guard`. What a guarded call is:
`turnlock.integrations.transport`.
"""

import httpx2

from .transport import async_transport, sync_transport

__all__ = ["AsyncGuardedTransport", "GuardedTransport"]

GuardedTransport = sync_transport(httpx2)
AsyncGuardedTransport = async_transport(httpx2)
