"""The faults that are put into our code, a module for each part that they break."""

from .gateway import *  # noqa: F403
from .lock import *  # noqa: F403
from .storage import *  # noqa: F403
from .turns import *  # noqa: F403
