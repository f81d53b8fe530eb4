"""Homomorphic encryption of updates: BFV, CKKS and threshold BFV."""
