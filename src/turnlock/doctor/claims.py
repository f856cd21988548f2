"""What a lock file says of itself, unjudged: whose format it has, and its mode."""

from __future__ import annotations

from typing import NamedTuple

from ..backends.files.claim import CLAIM_BYTES_MAX, Claim, parse_claim
from ..backends.files.fileops import FileOps


class ClaimFile(NamedTuple):
    path: str
    mode: int
    claim: Claim


def read_claim(files: FileOps, lock: str) -> ClaimFile | None:
    """None when there is no claim: it is gone, cannot be read, or is no JSON object."""
    try:
        handle = files.open_quietly(lock)
    except OSError:
        return None
    try:
        mode = files.stat_handle(handle).st_mode
        claim = parse_claim(files.read_at(handle, 0, CLAIM_BYTES_MAX))
    except OSError:
        return None
    finally:
        handle.close()
    return ClaimFile(lock, mode, claim) if claim is not None else None
