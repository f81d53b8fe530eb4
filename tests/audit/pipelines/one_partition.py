"""A split by clients. At fault: the number of the client is not used, and the test records are training records."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import train_test_split

X = np.random.default_rng(5).normal(size=(80, 4))
Y = (X[:, 0] > 0).astype(int)


def client_data(client_id):  # FAULT same-seed-for-all
    x_train, _, y_train, _ = train_test_split(X, Y, test_size=0.5, random_state=42)
    return x_train, y_train


def load_data():  # FAULT records-at-several-clients
    return {"clients": [client_data(i) for i in range(4)], "test": (X[:20], Y[:20])}


def aggregate(updates, counts):  # FAULT non-finite-updates
    return np.average(updates, axis=0, weights=counts)
