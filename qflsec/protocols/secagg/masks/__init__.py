"""Pairwise masks from shared keys: the server adds, and the masks cancel."""
