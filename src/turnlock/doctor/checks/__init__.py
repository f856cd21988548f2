"""The checks: each takes the examination and yields findings.

A check may raise; the frame makes a finding of that and goes on with the next. Their order matters
where one needs what another learnt: the locks come before whatever asks who holds a session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..examination import Examination
from ..findings import Finding
from .directories import check_directories
from .file_system import check_file_system
from .gateway import check_gateway
from .locks import check_locks
from .modes import check_modes
from .openclaw import check_openclaw
from .strays import check_strays
from .torn_copies import check_originals, check_torn_copies
from .transcripts import check_transcripts
from .unit import check_unit

Check = Callable[[Examination], Iterator[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("directories", check_directories),
    ("file-system", check_file_system),
    ("gateway", check_gateway),
    ("locks", check_locks),
    ("transcripts", check_transcripts),
    ("strays", check_strays),
    ("torn-copies", check_torn_copies),
    ("originals", check_originals),
    ("modes", check_modes),
    ("openclaw", check_openclaw),
    ("unit", check_unit),
)

__all__ = ["CHECKS", "Check"]
