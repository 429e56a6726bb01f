"""What should run where: pure functions over frozen values."""
