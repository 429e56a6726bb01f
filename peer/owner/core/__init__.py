"""What an owner's limits and wish allow at a moment: pure, with time and readings from outside."""
