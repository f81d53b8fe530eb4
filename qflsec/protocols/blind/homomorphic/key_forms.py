"""How the keys of a quantum one-time pad change under a public circuit: one matrix over GF(2).

A wire under the pad X^a Z^b stays padded under a Clifford gate, with keys that are sums of the old ones; under
a phase gate's gadget, the outcomes c (of the server) and k (of the client) join the sums. So every key bit at
any time is a row over the initial bits, all c and all k, and the rows depend on the public circuit alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.protocols.blind.homomorphic.steps import PadStep

__all__ = ["KeyForms", "Rows", "key_forms"]

Rows = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class KeyForms:
    """Rows over GF(2): columns a and b of every wire, then c and then k of every gadget.

    Attributes:
        n_wires: The number of wires, n.
        x: The final a of each wire.
        z: The final b of each wire.
        gadgets: The a of each gadget's wire just before it.

    Shapes:
        x, z: ``(n, 2 n + 2 T)``; gadgets: ``(T, 2 n + 2 T)``
    """

    n_wires: int
    x: Rows
    z: Rows
    gadgets: Rows

    @property
    def n_gadgets(self) -> int:
        """The number of gadgets, T."""
        return len(self.gadgets)

    @property
    def initial(self) -> slice:
        """The columns of the initial key bits: what is evaluated under encryption."""
        return slice(0, 2 * self.n_wires)

    @property
    def outcomes(self) -> slice:
        """The columns of c and k, which the client knows in the clear."""
        return slice(2 * self.n_wires, None)


def key_forms(steps: Sequence[PadStep], n_wires: int) -> KeyForms:
    """Follow the keys through a circuit.

    A gadget moves the wire to one half of an entangled pair: a becomes a + c, b becomes b + k.

    Source:
        Broadbent and Jeffery, Quantum homomorphic encryption for circuits of low T-gate complexity, CRYPTO
        2015, section 3 (Clifford updates) and scheme EPR, with the phase's sign folded into the client's turn.
    """
    n_gadgets = sum(step.kind == "phase" for step in steps)
    keys = np.eye(2 * n_wires, 2 * (n_wires + n_gadgets), dtype=np.uint8)
    a, b = keys[:n_wires], keys[n_wires:]
    gadgets: list[Rows] = []
    for step in steps:
        first, last = step.wires[0], step.wires[-1]
        if step.kind == "H":
            a[first], b[first] = b[first].copy(), a[first].copy()
        elif step.kind == "S":
            b[first] ^= a[first]
        elif step.kind == "CNOT":
            a[last] ^= a[first]
            b[first] ^= b[last]
        elif step.kind == "CZ":
            b[first] ^= a[last]
            b[last] ^= a[first]
        elif step.kind == "phase":
            gadgets.append(a[first].copy())
            a[first, 2 * n_wires + len(gadgets) - 1] ^= 1
            b[first, 2 * n_wires + n_gadgets + len(gadgets) - 1] ^= 1
    rows = np.array(gadgets, dtype=np.uint8).reshape(n_gadgets, keys.shape[1])
    return KeyForms(n_wires=n_wires, x=a.copy(), z=b.copy(), gadgets=rows)
