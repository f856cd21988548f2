"""The gateway of the directory: whether one serves it, in what condition, and what one left."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import lexists

from ..condition import LOCK_FILE, PRESENCE_FILE, Condition
from ..examination import Examination
from ..findings import Finding, finding
from ..live import Gateway, gateway_of, second_gateway
from ..presence import Written, read_written, remove_left


def check_gateway(examination: Examination) -> Iterator[Finding]:
    root = examination.root
    # Read first: what one writes that starts in between is not of one that is gone.
    left = _left(examination)
    gateway = gateway_of(root)
    if gateway is None:
        yield from _check_left(examination, left)
        return
    yield _running(examination, gateway)
    second = second_gateway(root, gateway)
    if second is not None:
        yield finding(
            "gateway-second",
            f"{root}/{PRESENCE_FILE}",
            f"beside the gateway here another serves this directory, {second.description}, without"
            " its lock",
            f"end it: kill {second.pid}",
        )


def _running(examination: Examination, gateway: Gateway) -> Finding:
    path = f"{examination.root}/{PRESENCE_FILE}"
    if gateway.is_sound or (gateway.condition is Condition.BLOCKED and not gateway.url):
        where = f" at {gateway.url}" if gateway.url else ""
        how = "" if gateway.answers else f"; it is {gateway.condition.value}"
        return finding(
            "gateway-running",
            path,
            f"a gateway serves this directory{where}, as process {gateway.pid}{how}",
            f"what it holds: {examination.command('locks')}",
        )
    kind = "gateway-elsewhere" if gateway.condition is Condition.ELSEWHERE else "gateway-wedged"
    return finding(kind, path, f"the gateway here, {gateway.description}", gateway.remedy)


def _left(examination: Examination) -> dict[str, Written]:
    """The files of a gateway, by their names."""
    root = examination.root
    names = [name for name in (PRESENCE_FILE, LOCK_FILE) if name in examination.survey.names]
    return {name: read_written(f"{root}/{name}") for name in names if lexists(f"{root}/{name}")}


def _check_left(examination: Examination, left: dict[str, Written]) -> Iterator[Finding]:
    """What a gateway that is gone has left: it stops nobody, and the next one replaces it."""
    start = f"start one if it should serve: {examination.command('gateway')}"
    fixed = bool(left) and examination.fix and remove_left(examination.root, left)
    for name, written in left.items():
        path = f"{examination.root}/{name}"
        if written.is_nobodys and name == LOCK_FILE:
            # Nobody has to be able to read it: it is there for people.
            continue
        if written.is_nobodys:
            message = "it cannot be read, or names no process"
            hint = f"the next gateway replaces it: {examination.command('gateway')}"
            yield finding("gateway-file", path, message, hint, fixed=fixed)
            continue
        message = f"the gateway that wrote it, process {written.claim.pid}, is gone"
        yield finding("gateway-gone", path, message, start, fixed=fixed)
