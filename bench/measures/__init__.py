"""The measures, in the order of the page."""

from __future__ import annotations

from ..measure import Measure
from .append import Append
from .cycle import Cycle
from .fairness import Fairness
from .guarded import Guarded
from .hand_off import HandOff
from .hung_calls import HungCallsAtOnce
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
    Guarded(),
)
