"""The URL of a database: what libpq reads in it, and what people may see of it."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ...errors import StoreError

# A peer that is gone is noticed in seconds, by both of TCP's ways: probes while nothing is under
# way, and a bound on what is unacknowledged while something is. What the URL says wins.
DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "application_name": "turnlock",
    "client_encoding": "UTF8",
    # After a fail-over the old primary may be there, as a standby.
    "target_session_attrs": "read-write",
}
_SCHEME = "postgresql://"
_SHOWN = ("host", "hostaddr", "port", "dbname")


def parameters(url: str) -> dict[str, Any]:
    """What to connect with. Raises `StoreError` for a URL that libpq cannot read."""
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError as error:
        # Its text may have the password in it.
        why = "it is no URL that libpq can read"
        hint = "use postgresql://user@host:port/database"
        raise StoreError(f"{_SCHEME}…", "open", why, hint) from error
    return DEFAULTS | {name: value for name, value in given.items() if value is not None}


def masked(url: str) -> str:
    """Hosts, ports and database of the URL, as libpq reads them: no user, password or option.

    Not cut out of the text: where a password ends in it, libpq knows best.
    """
    given = parameters(url)
    # A socket's directory is no host.
    hosts = [host for host in str(given.get("host", "")).split(",") if not host.startswith("/")]
    ports = str(given.get("port", "")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    named = (
        f"{host}:{port}" if host and port else host
        for host, port in zip_longest(hosts, ports[: len(hosts)], fillvalue="")
    )
    return f"{_SCHEME}{','.join(named)}/{given.get('dbname', '')}"


def place(url: str) -> tuple[str, ...]:
    """The database that the URL names, equal for two that name it in the same words."""
    given = parameters(url)
    return tuple(str(given.get(name, "")) for name in _SHOWN)
