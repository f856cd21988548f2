"""``gateway.json``: where a gateway says that it serves this directory, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator

from ..examination import Examination
from ..findings import Finding, finding
from ..live import NAME, gateway_of, pid_in


def check_gateway(examination: Examination) -> Iterator[Finding]:
    if NAME not in examination.survey.names:
        return
    path = f"{examination.root}/{NAME}"
    pid = pid_in(path)
    if pid is None:
        message = "it cannot be read, or names no process"
        hint = f"the next gateway replaces it: {examination.command('gateway')}"
        yield finding("gateway-file", path, message, hint)
        return
    gateway = gateway_of(examination.root)
    if gateway is None:
        yield finding(
            "gateway-gone",
            path,
            f"the gateway that wrote it, process {pid}, is gone",
            f"start one if it should serve: {examination.command('gateway')}",
        )
    elif gateway.answers or not gateway.url:
        where = f" at {gateway.url}" if gateway.url else ""
        yield finding(
            "gateway-running",
            path,
            f"a gateway serves this directory{where}, as process {pid}",
            f"what it holds: {examination.command('locks')}",
        )
    else:
        message = f"the gateway here, {gateway.description}"
        yield finding("gateway-wedged", path, message, gateway.remedy)
