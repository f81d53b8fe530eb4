"""Rounds that survive drop-outs: double masking with shared secrets, after Bonawitz et al."""
