"""Turnlock's own routes: what an operator asks a running gateway, and has it do.

Every handler takes a `Call` and returns the answer. Files are read by ``Gateway.reading``, off the
event loop. All of them work while the gateway drains, but for those that begin a turn.
"""
