"""Changing a running mapping when devices or links change, as little as pays."""
