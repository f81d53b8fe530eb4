"""A BB84 simulation. At fault: it compares the keys in the clear and never looks at an error rate."""

from __future__ import annotations

import secrets

import numpy as np


def bb84(n_photons=2048):  # FAULT unchecked-error-rate
    alice_bits = np.array([secrets.randbelow(2) for _ in range(n_photons)])
    alice_bases = np.array([secrets.randbelow(2) for _ in range(n_photons)])
    bob_bases = np.array([secrets.randbelow(2) for _ in range(n_photons)])
    guess = np.array([secrets.randbelow(2) for _ in range(n_photons)])
    bob_bits = np.where(bob_bases == alice_bases, alice_bits, guess)
    kept = alice_bases == bob_bases
    alice_key, bob_key = alice_bits[kept], bob_bits[kept]
    if np.array_equal(alice_key, bob_key):  # FAULT key-compared-in-the-clear
        return alice_key
    return None
