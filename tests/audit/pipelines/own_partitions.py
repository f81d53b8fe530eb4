"""A split by clients, each with its own part; updates are bounded. Not at fault."""

from __future__ import annotations

import numpy as np

X = np.random.default_rng(5).normal(size=(80, 4))
Y = (X[:, 0] > 0).astype(int)
ORDER = np.random.default_rng(0).permutation(len(X))


def client_data(client_id, n_clients=4):
    part = np.array_split(ORDER[:60], n_clients)[client_id]
    return X[part], Y[part]


def load_data():
    return {"clients": [client_data(i) for i in range(4)], "test": (X[ORDER[60:]], Y[ORDER[60:]])}


def aggregate(updates, counts):
    kept = [u / max(1.0, np.linalg.norm(u)) for u in updates if np.isfinite(u).all()]
    return np.mean(kept, axis=0)
