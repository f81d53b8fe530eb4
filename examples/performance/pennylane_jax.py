"""PennyLane's `default.qubit` in JAX: the gradient compiled by `jax.jit`, records by broadcasting."""

from __future__ import annotations

import os

# one thread, as ours
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import pennylane as qml
from step import Gradient, compare


def make(n: int, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> Gradient:
    @qml.qnode(qml.device("default.qubit", wires=n), interface="jax", diff_method="backprop")
    def node(w, x):
        qml.AngleEmbedding(x, wires=range(n))
        qml.StronglyEntanglingLayers(w, wires=range(n))
        return qml.expval(qml.PauliZ(0))

    def loss(w, x, y):
        logits = 3 * node(w, x)
        return jnp.sum(jnp.logaddexp(0.0, logits) - y * logits)

    gradient = jax.jit(jax.grad(loss))
    own = [jnp.asarray(array) for array in (weights, features, labels)]
    return lambda: np.asarray(gradient(*own))


compare("PennyLane with jax.jit", make)
