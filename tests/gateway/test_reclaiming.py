"""What a gateway on another host left behind and cannot be taken over is left alone for a while."""

from __future__ import annotations

from turnlock.backends import LockRecord
from turnlock.gateway.reclaiming import Pauses


def test_a_session_that_cannot_be_reclaimed_is_tried_less_and_less_often() -> None:
    """Each try is two commits and three warnings, by every gateway; others go on as before."""
    pauses = Pauses()
    record = LockRecord("p", "main/a", 1, "unknown", "T1", 1.0, 300.0, True, ("lease-expired",))
    tried = []
    for number in range(40):
        if "main/a" not in pauses.next_round():
            tried.append(number)
            pauses.note([record])
        else:
            pauses.note([])
    assert tried == [0, 2, 5, 10, 19, 36]
    while "main/a" in pauses.next_round():
        pauses.note([])
    pauses.note([record._replace(removed=True)])
    # It went: from now on it is as any other.
    assert pauses.next_round() == set()
    pauses.note([record])
    assert [len(pauses.next_round()) for _ in range(2)] == [1, 0]
