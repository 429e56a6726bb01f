"""Content-addressed files: the store, and the transfer that resumes."""
