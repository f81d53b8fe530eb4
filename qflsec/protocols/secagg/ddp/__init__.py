"""Distributed differential privacy: discrete noise added by the clients under secure aggregation."""
