"""A BB84 simulation that compares a sample, throws it away, and aborts above 11 %. Not at fault."""

from __future__ import annotations

import secrets

import numpy as np

LIMIT = 0.11


def draw(n):
    return np.array([secrets.randbelow(2) for _ in range(n)])


def bb84(n_photons=2048):
    alice_bits, alice_bases, bob_bases = draw(n_photons), draw(n_photons), draw(n_photons)
    bob_bits = np.where(bob_bases == alice_bases, alice_bits, draw(n_photons))
    kept = np.flatnonzero(alice_bases == bob_bases)
    sample, rest = kept[: len(kept) // 4], kept[len(kept) // 4 :]
    qber = float(np.mean(alice_bits[sample] != bob_bits[sample]))
    if qber > LIMIT:
        raise RuntimeError("aborted")
    return {"key": alice_bits[rest], "qber": qber}
