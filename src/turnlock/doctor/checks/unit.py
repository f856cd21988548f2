"""A unit of systemd for the gateway: whether it leaves the gateway the time to end its turns.

Only what decides about that is looked at, in the file that is named, and by systemd's own rules:
the last assignment counts, and what cannot be read is none. Drop-in files are not looked into.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from ...config import load_config
from ...errors import ConfigError
from ...limits import Limits
from ..condition import LATEST_END
from ..examination import Examination
from ..findings import Finding, finding

_BYTES_MAX = 64 * 1024
_CONFIG = "--config"
# systemd's own, where the unit says nothing.
_KILL_MODE = "control-group"
_STOP_SECONDS = 90.0
_WHAT_IT_DOES = {
    "control-group": "at a stop SIGTERM goes to what turns have started, before they are drained",
    "none": "at a stop nobody tells the gateway",
}
_NAMES = (
    (1e-6, "us usec"),
    (1e-3, "ms msec"),
    (1.0, "s sec second seconds"),
    (60.0, "m min minute minutes"),
    (3600.0, "h hr hour hours"),
    (86400.0, "d day days"),
)
_UNITS = {"": 1.0} | {name: factor for factor, names in _NAMES for name in names.split()}
# Nothing of it is tried twice: a text that is no span must not take for ever.
_PART = r"\s*+(\d++(?:\.\d++)?+)\s*+([a-z]*+)"
# What the gateway needs is no exact number.
_MARGIN = 5


def check_unit(examination: Examination) -> Iterator[Finding]:
    if examination.unit is None:
        return
    path = os.path.realpath(examination.unit)
    try:
        service = parse_service(_read(examination, path))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "name the file of the unit: systemctl show -P FragmentPath turnlock"
        yield finding("unit-unreadable", path, f"it is no unit of a service: {why}", hint)
        return
    mode = service.get("KillMode") or _KILL_MODE
    if mode in _WHAT_IT_DOES:
        message = f"KillMode is {mode!r}: {_WHAT_IT_DOES[mode]}"
        yield finding("unit-kill-mode", path, message, _set("KillMode=mixed"))
    yield from _check_time(path, service)


def _check_time(path: str, service: Mapping[str, str]) -> Iterator[Finding]:
    patience = seconds_of(service.get("TimeoutStopSec") or service.get("TimeoutSec") or "")
    drain = Limits().drain
    config = _config(service)
    if config is not None:
        try:
            drain = load_config(config).limits.drain
        except (ValueError, ConfigError) as error:
            message = f"{error}: the default drain limit, {drain:g} s, is assumed"
            look = f"ls -l {shlex.quote(config)}"
            hint = f"look at it as the user of the service, or with sudo: {look}"
            yield finding("unit-config", path, message, hint)
    needed = drain + LATEST_END
    if patience <= needed:
        message = (
            f"a stop has {patience:g} s, and the gateway needs up to {needed:g} s: a drain limit of"
            f" {drain:g} s, and {LATEST_END:g} s in which it ends all the same"
        )
        enough = f"TimeoutStopSec={math.ceil(needed) + _MARGIN}"
        yield finding("unit-stop-time", path, message, _set(enough))


def parse_service(text: str) -> dict[str, str]:
    """The settings in ``[Service]`` of a unit. Raises ValueError when there is none."""
    section = ""
    found: dict[str, dict[str, str]] = {}
    for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
        if line.startswith("["):
            section = line
            found.setdefault(section, {})
        elif line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found.setdefault(section, {})[name.strip()] = value.strip()
    if "[Service]" not in found:
        raise ValueError("it has no [Service]")
    return found["[Service]"]


def seconds_of(span: str) -> float:
    """A time span of systemd's (``45``, ``1min 30s``, ``infinity``); for what is none its default.

    0 is no limit.
    """
    parts = re.findall(_PART, span)
    if span == "infinity":
        return math.inf
    if not re.fullmatch(f"(?:{_PART})+", span) or any(unit not in _UNITS for _, unit in parts):
        return _STOP_SECONDS
    return sum(float(number) * _UNITS[unit] for number, unit in parts) or math.inf


def _read(examination: Examination, path: str) -> str:
    handle = examination.files.open_quietly(path)
    try:
        if not stat.S_ISREG(examination.files.stat_handle(handle).st_mode):
            raise ValueError("it is no file")
        return examination.files.read_at(handle, 0, _BYTES_MAX).decode()
    finally:
        handle.close()


def _config(service: Mapping[str, str]) -> str | None:
    """The configuration that the unit names; of several, as the gateway does, the last."""
    try:
        words = shlex.split(service.get("ExecStart", ""))
    except ValueError:
        return None
    named = None
    for word, following in zip_longest(words, words[1:]):
        if word == _CONFIG:
            named = following
        elif word.startswith(f"{_CONFIG}="):
            named = word.partition("=")[2]
    return named


def _set(line: str) -> str:
    return f"set {line} in its [Service], then: systemctl daemon-reload"
