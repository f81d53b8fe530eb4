"""CKKS around the weights. At fault: the server's context is made with its secret key."""

from __future__ import annotations

import tenseal as ts


def make_context():
    context = ts.context(ts.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40, 60])
    context.global_scale = 2**40
    context.generate_galois_keys()
    return context


CONTEXT = make_context()


class Aggregator:
    def __init__(self, context):
        self.context = context
        self.round = 0


def server():  # FAULT secret-key-at-the-server
    return Aggregator(ts.context_from(CONTEXT.serialize(save_secret_key=True)))  # FAULT secret-key-sent


def encrypt(update):
    return ts.ckks_vector(CONTEXT, list(map(float, update)))


def decrypt(message):
    return message.decrypt()
