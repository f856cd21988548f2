"""Being told of a revocation while waiting for something else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ..events import Event, RevocationFailed, TurnRevoked
from ..store import Store


@contextlib.contextmanager
def told_of_revocation(store: Store, tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell``, in some other thread, when a turn of the store is revoked.

    Also when the fence could not be put up yet: the turn is over for its holder all the same.
    """

    def listen(event: Event) -> None:
        if isinstance(event, (TurnRevoked, RevocationFailed)):
            tell()

    unsubscribe = store.subscribe(listen)
    try:
        yield
    finally:
        unsubscribe()
