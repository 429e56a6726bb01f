"""Looking before lending: what a machine has, what is required, and what to do about it."""
