"""The gateway: agents behind an OpenAI-compatible HTTP endpoint, each message a turn on a session.

``run`` is the whole program, ``serve`` the same inside a loop that runs already, and
``create_app`` the bare ASGI application over a `Gateway`.
"""

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the gateway needs starlette and uvicorn: pip install 'turnlock[gateway]'",
        name=missing.name,
    ) from missing

from ..doctor.live import AlreadyServed
from .agents import Agent, open_agents
from .app import create_app
from .pace import Pace
from .process import run
from .reloading import Reload
from .server import Stop, serve
from .service import Gateway

__all__ = [
    "Agent",
    "AlreadyServed",
    "Gateway",
    "Pace",
    "Reload",
    "Stop",
    "create_app",
    "open_agents",
    "run",
    "serve",
]
