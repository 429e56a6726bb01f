"""What the owner of a peer wants of it: asked by a command, kept on disk, obeyed by the daemon."""
