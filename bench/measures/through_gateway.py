"""What the gateway adds to a model call."""

from __future__ import annotations

from functools import partial
from itertools import count

from ..contenders import a_path
from ..gateway import Client, Served, serving
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.ours import TURN

_PLAIN = "plain"
_STREAM = "streamed"
_DIRECT = "practice model, directly"
_STATELESS = "turnlock gateway, no session"
_SESSION = "turnlock gateway, in a session"


class ThroughGateway:
    name = "gateway"
    title = "A turn through the gateway"
    what = "What the gateway adds to a call of the model."
    how = (
        "Model, gateway and client are processes of this machine; the client keeps its connection"
        " and asks one thing after the other. Without a session nothing is stored. In a session"
        " (a new one every round) the message, the reply and the terminal entry are made durable,"
        " the history is read and sent, and the last byte comes when the lease is released."
    )
    floor = "The same client asks the practice model directly; it answers at once."
    reading = (
        "A model takes seconds; this is what the client waits longer. Most of it is not the lock"
        " but the second HTTP request and the model's SDK, as the row without a session shows."
    )

    def run(self, bench: Bench) -> Result:
        number = bench.scale.turns
        spreads: dict[str, dict[str, Spread]] = {}
        with serving(a_path(bench.directory, TURN, name="gateway")) as served:
            rounds = min(bench.scale.rounds, number)
            asking = Asking(served, max(1, number // rounds))
            for title, stream in ((_PLAIN, False), (_STREAM, True)):
                jobs = {
                    _DIRECT: partial(asking.directly, stream),
                    _STATELESS: partial(asking.without_session, stream),
                    _SESSION: partial(asking.in_session, stream),
                }
                for job in jobs.values():
                    job()
                for label, took in in_rounds(rounds, jobs).items():
                    spreads.setdefault(label, {})[title] = Spread.of(took)
            asking.close()
        rows = [
            Row(label, Kind.OURS if label.startswith("turnlock") else Kind.FLOOR, cells)
            for label, cells in spreads.items()
        ]
        return result_of(self, [Column(_PLAIN, "ms"), Column(_STREAM, "ms")], rows)


class Asking:
    """A client of the model and one of the gateway, each asking so many times."""

    def __init__(self, served: Served, number: int) -> None:
        self._model = Client(served.model)
        self._gateway = Client(served.gateway, served.token)
        self._number = number
        self._sessions = count()

    def directly(self, stream: bool) -> list[float]:
        return [self._model.complete("practice", stream=stream) for _ in range(self._number)]

    def without_session(self, stream: bool) -> list[float]:
        return [self._gateway.complete("main", stream=stream) for _ in range(self._number)]

    def in_session(self, stream: bool) -> list[float]:
        session = f"main/turns-{next(self._sessions)}"
        return [self._gateway.complete("main", session, stream=stream) for _ in range(self._number)]

    def close(self) -> None:
        self._model.close()
        self._gateway.close()
