"""What a turn shows of itself, to threads and tasks alike."""

from __future__ import annotations

from .turn import TurnCore
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

    @property
    def revoked(self) -> bool:
        """Whether the session was taken from this turn, as far as this process knows."""
        return self._core.lease.is_revoked

    def describe_model(
        self, *, provider: str | None = None, model: str | None = None, api: str | None = None
    ) -> None:
        """What an error marker says about the model, should the turn fail."""
        lease = self._core.lease
        lease.provider, lease.model, lease.api = provider, model, api

    def __repr__(self) -> str:
        lease = self._core.lease
        return f"<{type(self).__name__} {lease.turn_id} of {lease.label}: {lease.state.value}>"
