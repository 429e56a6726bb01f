"""The broker: pure core, journal, RPC, command line."""
