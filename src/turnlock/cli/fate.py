"""What became of a session and its holder when it was released."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ..backends import LockRecord
from ..backends.files import native
from ..doctor.claims import ClaimFile
from ..doctor.findings import lock_as_json
from ..session import SessionKey
from ..turns.runtime import Statistics
from .terminal import paint

Running = Literal["alive", "dead", "unknown"]
Marker = Literal["written", "owed"]


class Fate(NamedTuple):
    """``holder`` is None when nobody held the session. ``fenced``: it can write no more.

    ``process``: whether the holder's process still runs. ``marker``: of the holder's turn, None
    when it owed none.
    """

    holder: LockRecord | None
    fenced: bool | None
    process: Running | None
    marker: Marker | None

    def as_json(self, session: SessionKey) -> dict[str, Any]:
        holder = self.holder
        return {
            "session": str(session),
            "released": holder is not None,
            "holder": lock_as_json(holder) if holder is not None else None,
            "fenced": self.fenced,
            "process": self.process,
            "marker": self.marker,
        }

    def lines(self, session: SessionKey) -> list[str]:
        if self.holder is None:
            return [f"session {session} is free: nobody holds it"]
        released = paint(f"released {session}", "good")
        return [released, *self._holder_lines(self.holder.pid), self._marker_line()]

    def _holder_lines(self, pid: int | None) -> list[str]:
        if self.process == "dead" or pid is None:
            named = "" if pid is None else f", process {pid},"
            return [f"  its holder{named} was gone already"]
        if self.fenced and self.process == "alive":
            return [
                "  its holder is fenced: whatever it still writes is refused",
                f"  process {pid} still runs; what it waits for ends by itself, or: kill {pid}",
            ]
        if self.fenced:
            return ["  its holder is fenced: whatever it still writes is refused"]
        return [
            f"  process {pid} is no holder of Turnlock's and cannot be fenced: it may write on;",
            f"  see what it is: ps -fp {pid}; end it: kill {pid}",
        ]

    def _marker_line(self) -> str:
        if self.marker is None:
            return "  it owed no error marker; the history is kept"
        if self.marker == "owed":
            return "  its error marker could not be written yet: turnlock doctor --fix"
        return "  its error marker was written; the history is kept"


FREE = Fate(None, None, None, None)


def fate_of(holder: LockRecord, file: ClaimFile | None, counted: Statistics) -> Fate:
    """After the session was taken: what is known of the one that held it.

    ``file`` is its claim as it was before, ``counted`` of the store that took the session.
    """
    process = _process(holder)
    ours = file is not None and file.claim.is_ours
    marker: Marker | None = "written" if counted.markers else None
    return Fate(
        holder, ours or process == "dead", process, "owed" if counted.markers_owed else marker
    )


def _process(holder: LockRecord) -> Running:
    if holder.pid is None or holder.pid_status == "unknown":
        return "unknown"
    if holder.pid_status != "alive":
        return "dead"
    return "alive" if native().processes.look_up(holder.pid).alive else "dead"
