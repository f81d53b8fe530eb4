"""tensorcircuit-ng with JAX: the gradient compiled by `jit`, records by `vmap`."""

from __future__ import annotations

import os

# one thread, as ours
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import tensorcircuit as tc
from step import Gradient, compare, pairs

tc.set_backend("jax")


def make(n: int, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> Gradient:
    def value(w, x):
        circuit = tc.Circuit(n)
        for wire in range(n):
            circuit.rx(wire, theta=x[wire])
        for layer, wire, target in pairs(n):
            if wire == 0:
                for rotated in range(n):
                    circuit.rz(rotated, theta=w[layer, rotated, 0])
                    circuit.ry(rotated, theta=w[layer, rotated, 1])
                    circuit.rz(rotated, theta=w[layer, rotated, 2])
            circuit.cnot(wire, target)
        return jnp.real(circuit.expectation_ps(z=[0]))

    def loss(w, x, y):
        logits = 3 * jax.vmap(value, in_axes=(None, 0))(w, x)
        return jnp.sum(jnp.logaddexp(0.0, logits) - y * logits)

    gradient = jax.jit(jax.grad(loss))
    own = [jnp.asarray(array) for array in (weights, features, labels)]
    return lambda: np.asarray(gradient(*own))


compare("tensorcircuit-ng with jax.jit", make)
