"""The peer brain: a deterministic state machine, events in, commands out."""
