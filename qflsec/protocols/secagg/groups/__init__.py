"""Secure aggregation in random groups, so that a robust rule can act on group means."""
