"""Models: what answers a turn. `turnlock.models.openai` speaks to any OpenAI-compatible endpoint.

Importing this package loads no model library.
"""

from .limits import ModelLimits
from .protocol import Delta, Finished, Message, Model, Thinking, complete

__all__ = ["Delta", "Finished", "Message", "Model", "ModelLimits", "Thinking", "complete"]
