"""Reading a machine for its owner's limits: what cannot be read says why, and nothing raises."""
