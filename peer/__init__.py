"""The daemon that lends a device: pure core, executor, shell."""
