"""JSON as the gateway sends it: strict, in ASCII, without a byte that a terminal acts on."""

from __future__ import annotations

import json

_SEPARATORS = (",", ":")


def to_json(value: object) -> str:
    """Raises ValueError for what strict JSON cannot say: NaN, an infinity, nesting too deep.

    Half a surrogate pair, which strict readers refuse, is sent as U+FFFD.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=_SEPARATORS)
        if "\\ud" in text:
            whole = json.dumps(value, ensure_ascii=False, separators=_SEPARATORS)
            mended = whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            text = json.dumps(json.loads(mended), separators=_SEPARATORS)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # The only character of ASCII that a terminal acts on and JSON does not escape.
    return text.replace("\x7f", "\\u007f")
