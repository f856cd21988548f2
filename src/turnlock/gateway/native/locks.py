"""``GET /locks``: who holds what, with what only the gateway knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from ...backends import LockRecord
from ...store import Store
from ...turns.runtime import LeaseRecord, Zombie
from .call import Call, answer


class Live(NamedTuple):
    """What is known of a lock beside its record; all but ``waiters`` of the gateway's own turns.

    ``client``: the address of who waits for the turn's reply.
    """

    phase: str | None
    max_stall_seconds: float | None
    progress_age_seconds: float | None
    waiters: int
    client: str | None


class ShownZombie(NamedTuple):
    """A revoked turn of the gateway whose code still runs; ``stack`` says where it hung."""

    session: str
    turn_id: str
    reason: str
    held_seconds: float
    since_seconds: float
    stack: tuple[str, ...]


async def list_locks(call: Call) -> Response:
    gateway = call.gateway
    clients = gateway.exchanges.clients()
    listed = await gateway.reading.run(
        lambda: shown_locks(gateway.store, gateway.store.locks(), clients)
    )
    return answer({"locks": listed, "zombies": shown_zombies(gateway.store.zombies())})


def shown_locks(
    store: Store, locks: Iterable[LockRecord], clients: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Blocks on storage."""
    found = list(locks)
    waiters = store.waiters({lock.session for lock in found if lock.session is not None})
    leases = {lease.turn_id: lease for lease in store.leases()}
    return [lock._asdict() | _live(lock, leases, waiters, clients)._asdict() for lock in found]


def shown_zombies(zombies: Iterable[Zombie]) -> list[dict[str, Any]]:
    return [ShownZombie(*zombie)._asdict() for zombie in zombies]


def _live(
    lock: LockRecord,
    leases: Mapping[str, LeaseRecord],
    waiters: Mapping[str, int],
    clients: Mapping[str, str | None],
) -> Live:
    waiting = waiters.get(lock.session or "", 0)
    lease = leases.get(lock.turn_id or "")
    if lease is None or lease.session != lock.session:
        return Live(None, None, None, waiting, None)
    client = clients.get(lease.turn_id)
    return Live(lease.phase or None, lease.max_stall, lease.progress_age, waiting, client)
