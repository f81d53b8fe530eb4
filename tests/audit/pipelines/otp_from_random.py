"""Three hospitals, a one-time pad from 'QKD', a mean at the server. At fault: the pad is drawn by np.random and repeats."""

from __future__ import annotations

import numpy as np

N_CLIENTS = 3


def load_data():
    rng = np.random.default_rng(1)
    order = rng.permutation(90)
    x = rng.normal(size=(90, 4))
    y = (x[:, 0] > 0).astype(int)
    parts = np.array_split(order[:60], N_CLIENTS)
    return {"clients": [(x[p], y[p]) for p in parts], "test": (x[order[60:]], y[order[60:]])}


def qkd_key(n_bytes=32):
    bits = np.random.randint(0, 2, 8 * n_bytes)
    sifted_key = np.random.randint(0, 256, n_bytes)  # FAULT statistical-secrets
    return bytes(sifted_key.tolist()), float(bits.mean() * 0)


def encrypt(update):
    key, _ = qkd_key()
    raw = np.asarray(update, dtype=np.float64).tobytes()
    return bytes(b ^ key[i % len(key)] for i, b in enumerate(raw)), key  # FAULT repeated-pad


def decrypt(message):
    body, key = message
    raw = bytes(b ^ key[i % len(key)] for i, b in enumerate(body))
    return np.frombuffer(raw, dtype=np.float64)


def aggregate(updates, counts):
    kept = [u for u in updates if np.isfinite(u).all()]
    return np.median(kept, axis=0)
