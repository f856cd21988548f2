"""The gateway's own times; what bounds a turn is in the configuration's ``[limits]``."""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """Seconds.

    ``headers``: a stream that has no content yet sends its head after this; until then a failure
    has a status of its own. ``queued``: for how long a queued stream keeps its status as well, so
    that a busy session is a 409. ``keepalive``: silence after which a stream sends a comment.
    ``head`` and ``body``: the longest that a client may take to send them. ``hand_over``: how long
    the answer of a revoked turn waits for the turn's terminal entry, should the disk hang.
    ``reading``: how long a request that only reads files waits for them. ``ending``: how long the
    answer to a release waits for the code of the released turn to end. ``slow``: how long a
    listener to events may take for what it is sent, and any client to take anything of it.
    ``reclaim``: how often a gateway whose sessions are in a database looks for what others left
    there.
    """

    headers: float = 10.0
    queued: float = 120.0
    keepalive: float = 15.0
    head: float = 10.0
    body: float = 30.0
    hand_over: float = 5.0
    reading: float = 30.0
    ending: float = 0.5
    slow: float = 30.0
    reclaim: float = 2.0
