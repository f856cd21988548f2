"""Turns: taking a session, holding it within limits, writing it, and every way in which that ends.

A turn takes a place in the process's queue (``queue``), then the lock (``taking``), and has a
``Lease`` (``lease``) until it ends. What it appends goes through its ``Writer`` (``writer``), which
knows ids, parents, epochs and what predecessors owe. The ``Watchdog`` (``watchdog``) compares all
leases with their limits; ``revoking`` takes one from its holder. ``turn`` is what the two faces,
``sync`` and ``aio``, have in common.
"""
