"""The demo: Turnlock's four layers at work, then the same hang without them, in real processes.

Nothing is told that does not happen. The model server, the holders and the waiters are processes of
their own (``roles``, and ``naive`` for those that use an ordinary lock file), which report over
their stdout what they see: the typed events of their store, and what they do themselves. The scenes
(``hang``, ``crash``, ``contrast``) start, kill and ask them, and every report becomes a sentence
(``story``); ages come from ``store.locks()``, verdicts from ``turnlock doctor``, transcripts from
the files as read back. The stage shows it: line by line (``stage``), or drawn with rich on a
terminal (``screen``).

All of it lies in a temporary directory. A process of the demo ends when its stdin does, so none
outlives the demo, however that ends.
"""

from .cast import Cast
from .play import Summary, play
from .playing import DemoFailed, Setting, Texts
from .stage import PlainStage, Stage
from .story import FAST, FULL, Pace

__all__ = [
    "FAST",
    "FULL",
    "Cast",
    "DemoFailed",
    "Pace",
    "PlainStage",
    "Setting",
    "Stage",
    "Summary",
    "Texts",
    "play",
]
