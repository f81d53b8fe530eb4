"""Three hospitals, AES-GCM with keys from the operating system, a median at the server. Not at fault."""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY = AESGCM.generate_key(bit_length=256)


def load_data():
    rng = np.random.default_rng(1)
    order = rng.permutation(90)
    x = rng.normal(size=(90, 4))
    y = (x[:, 0] > 0).astype(int)
    parts = np.array_split(order[:60], 3)
    return {"clients": [(x[p], y[p]) for p in parts], "test": (x[order[60:]], y[order[60:]])}


def encrypt(update):
    nonce = os.urandom(12)
    return nonce, AESGCM(KEY).encrypt(nonce, np.asarray(update, dtype=np.float64).tobytes(), None)


def decrypt(message):
    nonce, body = message
    return np.frombuffer(AESGCM(KEY).decrypt(nonce, body, None), dtype=np.float64)


def aggregate(updates, counts):
    kept = [u for u in updates if np.isfinite(u).all()]
    return np.median(kept, axis=0)
