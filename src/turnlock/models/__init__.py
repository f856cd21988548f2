"""Models: what answers a turn. `turnlock.models.opening` opens one by the name of its provider.

Importing this package loads no model library.
"""

from .alternating import alternating
from .limits import ModelLimits
from .protocol import Delta, Finished, Message, Model, Thinking, complete

__all__ = [
    "Delta",
    "Finished",
    "Message",
    "Model",
    "ModelLimits",
    "Thinking",
    "alternating",
    "complete",
]
