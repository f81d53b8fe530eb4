"""A federation by hand: clients, a pad from a 'quantum' key, a weighted mean at the server. Four things are wrong.

Audit it: qflsec audit examples/audit/federation.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

N_CLIENTS = 5


def load_data():
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    parts = np.array_split(np.random.default_rng(0).permutation(400), N_CLIENTS)
    return {"clients": [(x[part], y[part]) for part in parts], "test": (x[380:], y[380:])}


def quantum_key():
    return np.random.default_rng(7).integers(0, 256, 32, dtype=np.uint8)


def encrypt(update):
    key = quantum_key()
    raw = np.asarray(update, dtype=np.float64).view(np.uint8)
    return (raw ^ np.resize(key, raw.size)).tobytes()


def decrypt(message):
    key = quantum_key()
    raw = np.frombuffer(message, dtype=np.uint8)
    return (raw ^ np.resize(key, raw.size)).view(np.float64)


def aggregate(updates, counts):
    return np.average(updates, axis=0, weights=counts)


def train(data, seed):
    x, y = data
    weights = 0.01 * np.random.default_rng(seed).normal(size=x.shape[1])
    for _ in range(200):
        weights += 0.5 * x.T @ (y - 1 / (1 + np.exp(-x @ weights))) / len(x)
    return lambda features: 1 / (1 + np.exp(-features @ weights))
