"""The broker's brain: a deterministic state machine, events in, commands out.

No clock, socket, disk, thread or unseeded randomness in here, and no import of them.
"""
