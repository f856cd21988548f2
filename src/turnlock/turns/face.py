"""What a turn shows of itself, to threads and tasks alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from .calling import OpenCall
from .turn import TurnCore, check_text
from .watching import Budget


class TurnFace:
    """The common part of `Turn` and `AsyncTurn`: what needs no storage."""

    def __init__(self, core: TurnCore, default: Budget) -> None:
        self._core = core
        self._default = default

    @property
    def turn_id(self) -> str:
        return self._core.lease.turn_id

    @property
    def session(self) -> str:
        return self._core.lease.label

    def idempotency_key(self, call_id: str) -> str:
        """A key for the side effect of one tool call, for an API that does a key's request once.

        A UUID, made of the session, the turn's id and ``call_id``: the same whenever it is asked
        for in this turn, or in one that is begun with the same ``turn_id``; another for every other
        call, turn and session. No promise that the effect happens, or that its API looks at the
        key. Works in a revoked turn as well.
        """
        import json
        import uuid

        # As JSON: no three names are joined to what three others are joined to.
        named = json.dumps([self.session, self.turn_id, call_id])
        return str(uuid.uuid5(uuid.NAMESPACE_OID, named))

    @property
    def identity(self) -> Hashable:
        """What the session is known by: equal for turns of two stores on one place."""
        return self._core.lease.ticket.identity

    @property
    def revoked(self) -> bool:
        """Whether the session was taken from this turn, as far as this process knows."""
        return self._core.lease.is_revoked

    def describe_model(
        self, *, provider: str | None = None, model: str | None = None, api: str | None = None
    ) -> None:
        """What an error marker says about the model, should the turn fail.

        Raises TypeError for what is neither text nor None.
        """
        for name, value in (("provider", provider), ("model", model), ("api", api)):
            if value is not None:
                check_text(name, value)
        lease = self._core.lease
        lease.provider, lease.model, lease.api = provider, model, api

    def begin_call(
        self,
        end: Callable[[], object],
        *,
        first: float | None = None,
        idle: float | None = None,
        whole: float | None = None,
        what: str = "model",
    ) -> OpenCall:
        """A call that the caller makes itself and reports on: for transports and plug-ins.

        Seconds: ``first`` to the first content, ``idle`` between contents (None: the store's
        ``limits.first_token`` and ``limits.idle``), ``whole`` from here to the end (None: none but
        the turn's). When one passes, the turn is revoked with reason ``model-limit``. ``end`` is
        called, from any thread, once the turn is over in any way while the call is open; it has to
        be quick, and to end what the call waits for; what it raises is logged. Raises
        `LeaseRevoked` when the turn is over already, and `LimitsError`.
        """
        budget = self._default.with_limits(first, idle, None, what)
        return OpenCall(self._core, budget, whole, end)

    def __repr__(self) -> str:
        lease = self._core.lease
        return f"<{type(self).__name__} {lease.turn_id} of {lease.label}: {lease.state.value}>"
