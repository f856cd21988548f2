"""Turns a second of one, two and four gateways with one database."""

from __future__ import annotations

from functools import partial
from itertools import count

from tests.postgres.server import programs

from ..at_once import rate_at_once
from ..contenders import a_path
from ..database import BareTurns, database, recorded, unmeasured
from ..gateway import Client, Served, several
from ..measure import Bench, in_rounds, result_of
from ..results import Column, Kind, Result, Row, Spread
from ..subjects.postgres import POSTGRES_TURN

_TITLE = "turns"
_BARE = "SQL of such turns, 8 connections"
_FILES = "turnlock, 1 gateway, files"
_GATEWAYS = (1, 2, 4)
_CLIENTS = 8


class PostgresGateways:
    name = "postgres-gateways"
    title = "Turns a second with one, two and four gateways"
    what = "What more gateways on one database get done."
    how = (
        "Eight clients, each with a connection that it keeps and a session of its own, ask for one"
        " turn after the other; they are shared out over the gateways. Model, gateways, database"
        " and clients are processes of this one machine, and share its processors."
    )
    floor = (
        "The messages of a turn with one append (a turn through a gateway has two), sent by eight"
        " bare connections of one process: no HTTP, no model."
    )
    reading = (
        "A gateway is one Python process and uses one processor. More of them help until the"
        " processors, or the commits of the database, are used up: on a machine of few processors,"
        " which they share with everything else here, that is at once."
    )

    def run(self, bench: Bench) -> Result:
        if programs() is None:
            return unmeasured(self.name)
        place = a_path(bench.directory, POSTGRES_TURN, name="gateways")
        with (
            database(bench.directory) as url,
            several(f"{place}-database", max(_GATEWAYS), url) as gateways,
            several(f"{place}-files", 1) as files,
        ):
            messages = recorded(url)
            number = max(1, bench.scale.turns // _CLIENTS)
            numbers = count()
            bare = partial(BareTurns, url, messages)
            jobs = {_BARE: lambda: [rate_at_once([bare] * _CLIENTS, number)]}
            jobs[_FILES] = partial(_rate, files, number, numbers)
            for some in _GATEWAYS:
                jobs[_label(some)] = partial(_rate, gateways[:some], number, numbers)
            rates = in_rounds(bench.scale.rounds, jobs)
        rows = [
            Row(
                label,
                Kind.FLOOR if label == _BARE else Kind.OURS,
                {_TITLE: Spread.of(values)},
            )
            for label, values in rates.items()
        ]
        return result_of(self, [Column(_TITLE, "a second", False)], rows)


def _label(number: int) -> str:
    return f"turnlock, {number} gateway{'s' if number > 1 else ''}, PostgreSQL"


def _rate(gateways: list[Served], number: int, numbers: count[int]) -> list[float]:
    clients = [
        partial(TurnsOfClient, gateways[one % len(gateways)], next(numbers))
        for one in range(_CLIENTS)
    ]
    return [rate_at_once(clients, number)]


class TurnsOfClient:
    def __init__(self, served: Served, number: int) -> None:
        self._client = Client(served.gateway, served.token)
        self._session = f"main/client-{number}"

    def once(self) -> None:
        self._client.complete("main", self._session)

    def close(self) -> None:
        self._client.close()
