"""What helps somebody else to understand a peer, without what identifies or opens it."""
