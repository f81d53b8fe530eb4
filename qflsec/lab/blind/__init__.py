"""Blind computation in the lab: attacks by the quantum server in scored sessions."""
