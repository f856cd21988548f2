"""The faults that are put into our code, a module for each part that they break."""

from .calls import *  # noqa: F403
from .claims import *  # noqa: F403
from .cleaning import *  # noqa: F403
from .cli import *  # noqa: F403
from .doctor import *  # noqa: F403
from .gateway import *  # noqa: F403
from .inputs import *  # noqa: F403
from .lock import *  # noqa: F403
from .models import *  # noqa: F403
from .storage import *  # noqa: F403
from .tasks import *  # noqa: F403
from .transcript import *  # noqa: F403
from .turns import *  # noqa: F403
from .waiting import *  # noqa: F403
from .watchdog import *  # noqa: F403
from .writer import *  # noqa: F403
