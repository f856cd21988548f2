"""What systemd is told, by its protocol of datagrams (sd_notify); nothing without systemd."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping

from ..clock import SystemClock
from ..doctor.condition import Stage

logger = logging.getLogger("turnlock")

_STATES = {
    Stage.STARTING: "STATUS=starting: cleaning up",
    Stage.SERVING: "READY=1\nSTATUS=serving",
    Stage.RELOADING: "RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading",
    Stage.DRAINING: "STOPPING=1\nSTATUS=draining",
}


class Notifier:
    """Tells the service manager that ``variables`` name; without one it does nothing."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._address = variables.get("NOTIFY_SOCKET", "")
        self._period = _watchdog_period(variables) if self._address else None

    def tell(self, stage: Stage) -> None:
        """Say which stage began. What cannot be said is logged."""
        now = round(SystemClock.monotonic() * 1_000_000)
        self._send(_STATES[stage].format(now=now))

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """Give signs of life from the running loop: a loop that is blocked gives none."""
        if self._period is None:
            yield
            return
        task = asyncio.create_task(self._live(self._period), name="systemd watchdog")
        try:
            yield
        finally:
            task.cancel()

    async def _live(self, period: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(period)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL that an abstract address begins with.
        address = self._address.replace("@", "\0", 1)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError as error:
            logger.warning("the service manager could not be told %r: %s", text, error)


def _watchdog_period(variables: Mapping[str, str]) -> float | None:
    """Seconds between signs of life: a third of what systemd allows; None when it wants none."""
    meant_for = variables.get("WATCHDOG_PID", str(os.getpid()))
    microseconds = variables.get("WATCHDOG_USEC", "")
    if meant_for != str(os.getpid()) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000 / 3
