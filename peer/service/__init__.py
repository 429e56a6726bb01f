"""Running a peer without a terminal: what each system's service manager is told, and telling it."""
