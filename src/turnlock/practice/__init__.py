"""A practice model: an OpenAI-compatible endpoint that answers without a key, and hangs on demand.

It replies ``practice reply N to: <last user text>``, where N counts the user messages of the
request. What it answers to is the last user text, or the result of a tool where that is the last
message. The first word of it, or the header ``X-Practice-Mode`` (without the slash), asks for a
fault:

=================  ===============================================================
``/hang``          accepts the request and never answers
``/stall``         about half an answer, then silence
``/dribble``       content for ever, a little every ``pulse``
``/comments``      keepalive comments and empty deltas for ever, never content
``/reset``         half an answer, then a connection reset
``/cut``           half an answer, then a clean end: no finish_reason, no ``[DONE]``
``/429``           rate limit, with Retry-After
``/500``           an internal error as a big HTML page
``/garbage``       status 200 and a body that is no JSON
``/leak``          an error that repeats the API key of the request
``/open``          a complete answer whose body never ends
``/slow SECONDS``  the first content only after that time
``/tokens N``      N deltas
``/tool NAME …``   a call of the tool, with the rest of the text as its arguments
=================  ===============================================================

It speaks chat completions and, at ``/v1/responses``, the format of OpenAI's responses. A history
with a call that has no result is refused, as OpenAI refuses it.

Without ``stream`` the modes do the nearest thing: ``/dribble`` and ``/comments`` send white space
for ever, half an answer is half of its JSON.
"""

from .script import Mode
from .server import PracticeServer, serve
from .statistics import PeerClose, Statistics

__all__ = ["Mode", "PeerClose", "PracticeServer", "Statistics", "serve"]
