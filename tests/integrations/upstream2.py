"""A model server that speaks HTTP/2, where calls share one connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events

from .calls import TEXT
from .upstream import Upstream

_HEADERS = [(":status", "200"), ("content-type", "text/event-stream")]


class Upstream2(Upstream):
    """Each request for ``/middle`` gets a head and one event, any other for ``/whole`` all of an
    answer, and the rest nothing at all."""

    def _converse(self, connection: socket.socket) -> None:
        h2c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        h2c.initiate_connection()
        connection.sendall(h2c.data_to_send())
        for event in _events(connection, h2c):
            if isinstance(event, h2.events.RequestReceived):
                self._answer(h2c, event)
                connection.sendall(h2c.data_to_send())
                self.asked.release()

    def _answer(self, h2c: h2.connection.H2Connection, event: h2.events.RequestReceived) -> None:
        path = dict(event.headers)[b":path"]
        self.heard.append(path)
        if path in (b"/middle", b"/whole"):
            h2c.send_headers(event.stream_id, _HEADERS)
            h2c.send_data(
                event.stream_id, f"data: {TEXT}\n\n".encode(), end_stream=path == b"/whole"
            )


def _events(
    connection: socket.socket, h2c: h2.connection.H2Connection
) -> Iterator[h2.events.Event]:
    while data := connection.recv(65536):
        yield from h2c.receive_data(data)
        connection.sendall(h2c.data_to_send())
