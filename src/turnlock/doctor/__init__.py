"""Doctor: what is stale or broken in a state directory, and its repair.

A list of isolated checks; each gives findings. Without ``fix`` nothing is changed, down to access
times. With it, what can be repaired safely is: stale locks are removed, owed error markers written,
bytes that were cut short copied aside, strays of dead processes removed. Never a live lock, and
never a byte of a transcript but the markers.

``looking`` says what cannot be looked at at all, ``findings`` what there is to be found, ``survey``
walks the directory once, ``examination`` is what the checks share.
"""
