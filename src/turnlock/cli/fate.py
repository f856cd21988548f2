"""What became of a session and its holder when it was released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..backends import LockRecord
from ..backends.files import native
from ..doctor.findings import lock_as_json
from ..printable import printable
from ..turns.revoking import Markers, Settlement
from .held import Held
from .naming import Target
from .terminal import paint

Running = Literal["alive", "dead", "unknown"]
Marker = Literal["written", "owed"]


# Of a claim of another host's, before the question and in the answer.
UNSEEN = (
    "  its host cannot be asked whether it lives; its lock, as this host sees it, nobody holds",
    "  on a local file system it is gone; on one that hosts share, without flock between them, it",
    "  may live, and write on beside the next holder: end it, where it runs, before the next turn",
)


class Fate(NamedTuple):
    """``holder`` is None when nobody held the session. ``fenced``: it can write no more.

    ``process``: whether the holder's process still runs. ``marker``: of the holder's turn, None
    when it owed none. ``moved_to``: where another program's lock is now, if it was moved aside.
    ``answer``: what the gateway said, if it was the one that released the session.
    """

    holder: LockRecord | None
    fenced: bool | None
    process: Running | None
    marker: Marker | None
    moved_to: str | None = None
    answer: Mapping[str, Any] | None = None

    def as_json(self, target: Target) -> dict[str, Any]:
        if self.answer is not None:
            return dict(self.answer)
        holder = self.holder
        shown = {
            "session": target.key,
            "released": holder is not None,
            "holder": lock_as_json(holder) if holder is not None else None,
            "fenced": self.fenced,
            "process": self.process,
            "marker": self.marker,
        }
        if target.openclaw_key is not None:
            shown["openclaw_key"] = target.openclaw_key
        return shown | ({"moved_to": self.moved_to} if self.moved_to is not None else {})

    def lines(self, target: Target) -> list[str]:
        title = printable(target.title)
        if self.holder is None:
            return [f"session {title} is free: nobody holds it"]
        released = paint(f"released {title}", "good")
        if self.answer is not None:
            return [released, *self._gateway_lines(), self._marker_line()]
        if self.moved_to is not None:
            return [released, *self._moved_lines(), *self._holder_lines(self.holder.pid)]
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
        if self.holder is not None and "other-host" in self.holder.reasons:
            return [paint(line, "warning") for line in UNSEEN]
        if self.fenced:
            return ["  its holder is fenced: whatever it still writes is refused"]
        return [
            paint(f"  process {pid} is no holder of Turnlock's and cannot be fenced:", "warning"),
            paint("  it still runs, and may still write this transcript", "warning"),
            f"  end it before it does: openclaw gateway restart, or: kill {pid}",
        ]

    def _gateway_lines(self) -> list[str]:
        """The holder was a turn of the gateway, whose process is not what one would end."""
        assert self.holder is not None
        assert self.answer is not None
        lines = [
            "  its turn was cancelled and is fenced: whatever it still writes is refused",
            f"  the gateway, process {self.holder.pid}, goes on serving",
        ]
        if self.answer.get("zombie"):
            lines.append("  the turn's code still runs, as a zombie: the gateway's log says where")
        return lines

    def _moved_lines(self) -> list[str]:
        return [
            "  the transcript was not touched; the history is kept",
            f"  its lock was moved aside, to {printable(self.moved_to)}",
        ]

    def _marker_line(self) -> str:
        if self.marker is None:
            return "  it owed no error marker; the history is kept"
        if self.marker == "owed":
            return "  its error marker could not be written yet: turnlock doctor --fix"
        return "  its error marker was written; the history is kept"


FREE = Fate(None, None, None, None)


def fate_of(held: Held, settlement: Settlement) -> Fate:
    """After the session was taken, and what could be written was."""
    process = _process(held.record)
    is_fenced = held.is_ours or process == "dead"
    return Fate(held.record, is_fenced, process, marker_of(settlement))


def marker_of(settlement: Settlement) -> Marker | None:
    """None when none was owed. What is not known to be written is owed."""
    if settlement.markers is Markers.NONE:
        return None
    return "written" if settlement.markers is Markers.WRITTEN else "owed"


def fate_of_moved(held: Held, moved_to: str) -> Fate:
    """After another program's lock was moved aside: its holder may write on if it lives."""
    process = _process(held.record)
    return Fate(held.record, process == "dead", process, None, moved_to)


def fate_by_gateway(held: Held, answer: Mapping[str, Any]) -> Fate:
    """After the gateway released a turn of its own, and said what became of it."""
    if not answer.get("released"):
        return FREE._replace(answer=answer)
    process, marker = answer.get("process"), answer.get("marker")
    return Fate(
        held.record,
        answer.get("fenced") is True,
        process if process in ("alive", "dead") else "unknown",
        marker if marker in ("written", "owed") else None,
        answer=answer,
    )


def _process(holder: LockRecord) -> Running:
    if holder.pid is None or holder.pid_status == "unknown":
        return "unknown"
    if holder.pid_status != "alive":
        return "dead"
    return "alive" if native().processes.look_up(holder.pid).alive else "dead"
