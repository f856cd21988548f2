"""The measures, in the order of the page."""

from __future__ import annotations

from ..measure import Measure
from .append import Append
from .cycle import Cycle
from .fairness import Fairness
from .guarded import Guarded
from .hand_off import HandOff
from .hung_calls import HungCallsAtOnce
from .postgres_gateways import PostgresGateways
from .postgres_hand_off import PostgresHandOff
from .postgres_turn import PostgresTurn
from .recovery import Recovery
from .revocation import Revocation
from .sweep import Sweep
from .through_gateway import ThroughGateway
from .waiting import Waiting

MEASURES: tuple[Measure, ...] = (
    Cycle(),
    HandOff(),
    Waiting(),
    Recovery(),
    Revocation(),
    Fairness(),
    Append(),
    Sweep(),
    ThroughGateway(),
    HungCallsAtOnce(),
    PostgresTurn(),
    PostgresHandOff(),
    PostgresGateways(),
    Guarded(),
)
