"""Executors: one module per framework, run in a child process of the daemon."""
