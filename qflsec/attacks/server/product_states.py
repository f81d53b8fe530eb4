"""A server that hands out product states in place of GHZ states, and reads every client's phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import AttackCard, ConfigError, Source, numpy_stream, register
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.ghz import GhzOutcome, Laboratory, Phases, Qubits, failure_rate
from qflsec.protocols.ghz.state_tests import unpack
from qflsec.threat import client

__all__ = ["GhzProductStates", "ProductSource"]

Floats = npt.NDArray[np.float64]


@register("attack", "ghz-product-states")
@dataclass(frozen=True, kw_only=True)
class GhzProductStates:
    """Hand out ``|+_phi>`` on its own to every client in a fraction of the copies.

    With phi = pi/2 or -pi/2 the outcome of a client's X measurement has the mean ``-+ sin theta``: of each client's own
    phase, with its sign. The signs of phi add up to nothing where the number of clients is even, which is the choice
    that the tests notice least.

    Attributes:
        fraction: The probability with which a copy is a product state.

    Raises:
        ConfigError: It is no probability.
    """

    card = AttackCard(
        name="ghz-product-states",
        idea="The server hands out product states in place of GHZ states and reads each client's phase.",
        source=Source(
            paper="Pappa, Chailloux, Wehner, Diamanti, Kerenidis: Multipartite entanglement verification resistant "
            "against dishonest parties, PRL 108, 260502, arXiv:1112.5064",
            year=2012,
            where="the dishonest source against which the states are tested",
        ),
        family="server",
        goal="confidentiality",
        needs=("the server's bench, which makes the states", "every client's outcomes"),
        metric="1 - error of the read updates / error of guessing 0",
    )
    fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        if not 0 <= self.fraction <= 1:
            raise ConfigError("bad fraction of product states", got=self.fraction, expected="0 to 1")

    def detection(self, n: int) -> float:
        """The probability that a test fails, without noise."""
        return self.fraction * failure_rate((1 + math.cos(float(_turns(n).sum()))) / 2**n)

    def open(self, seed: int) -> ProductSource:
        """The source of one round.

        Args:
            seed: Of the server's own choices.
        """
        return ProductSource(self.fraction, seed)


class ProductSource:
    """A bench that hands out product states, and remembers in which copies.

    Args:
        fraction: The probability with which a copy is a product state.
        seed: Of the choice.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self._fraction, self._rng = fraction, numpy_stream(seed, "attack", "ghz-product-states")
        self._product = np.zeros(0, dtype=bool)

    def distribute(self, laboratory: Laboratory, n: int, copies: int) -> list[Qubits]:
        """One handle for each client."""
        self._product = self._rng.random(copies) < self._fraction
        return laboratory.send(n, copies, product=self._product, radians=_turns(n))

    def read(self, outcome: GhzOutcome, phases: Phases, n_params: int) -> Floats | None:
        """Every client's update, from its own outcomes in the bad copies; None where the round stopped before.

        A coordinate of which no copy was bad is guessed as 0.

        Shapes:
            returns: ``(n, n_params)``
        """
        if len(outcome.sealed) < phases.n or outcome.tested is None:
            return None
        bad = self._product[~outcome.tested].reshape(n_params, 2, phases.shots)
        signs = np.sign(_turns(phases.n))
        rows = []
        for index in range(phases.n):
            bits = unpack(outcome.sealed[client(index)][:-ED25519_BYTES], bad.size)
            assert bits is not None
            usable = bad.copy()
            if index == 0:
                usable[:, 1] = False  # measured along Y, where the mean is that of a cosine
            counted = usable.sum(axis=(1, 2))
            means = (usable * (1.0 - 2.0 * bits.reshape(bad.shape))).sum(axis=(1, 2)) / np.maximum(counted, 1)
            rows.append(np.arcsin(-signs[index] * means) * phases.n * phases.max_abs / phases.span)
        read: Floats = np.clip(np.stack(rows), -phases.max_abs, phases.max_abs)
        return read


def _turns(n: int) -> Floats:
    """Phases of plus and minus a right angle, by turns."""
    return np.where(np.arange(n) % 2 == 0, math.pi / 2, -math.pi / 2)
