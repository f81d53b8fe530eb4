"""A client that turns its qubits by any phase it likes: no test of the states can notice it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import AttackCard, ConfigError, Secrets, Source, register
from qflsec.federation import Identity
from qflsec.protocols.ghz import GhzClient
from qflsec.protocols.ghz.parties import Terms

__all__ = ["GhzPhaseShift"]

Floats = npt.NDArray[np.float64]


@register("attack", "ghz-phase-shift")
@dataclass(frozen=True, kw_only=True)
class GhzPhaseShift:
    """Turn every qubit further than the range of a coordinate allows.

    A client of ``n`` that keeps to the range moves the mean by ``max_abs / n`` at most; a phase moves it by
    ``phase / span * max_abs``, whatever n. Nobody else's outcomes, and no test, depend on it.

    Attributes:
        phase: The angle that is added to each.

    Units:
        phase: radians

    Raises:
        ConfigError: It is not an angle between -pi and pi.
    """

    card = AttackCard(
        name="ghz-phase-shift",
        idea="A corrupted client of a GHZ sum turns its qubits by any phase, which moves the sum and is never noticed.",
        source=Source(
            paper="Zhang et al.: Federated learning with quantum secure aggregation, arXiv:2207.07444",
            year=2022,
            where="the clients' turns about Z, which the protocol takes on trust",
        ),
        family="poisoning",
        goal="integrity",
        needs=("a corrupted client",),
        metric="shift of the mean / max_abs",
    )
    phase: float = math.pi / 4

    def __post_init__(self) -> None:
        """Refuse what is no angle."""
        if not -math.pi <= self.phase <= math.pi:
            raise ConfigError("bad phase", got=self.phase, expected="-pi to pi")

    def client(self, terms: Terms, identity: Identity, secrets: Secrets) -> GhzClient:
        """The corrupted client, as :func:`~qflsec.protocols.ghz.run_ghz_round` takes it."""
        return _Shifting(terms, identity, secrets, self.phase)


class _Shifting(GhzClient):
    def __init__(self, terms: Terms, identity: Identity, secrets: Secrets, phase: float) -> None:
        super().__init__(terms=terms, signer=identity, secrets=secrets)
        self._phase = phase

    def _angles(self, update: Floats, *, checked: bool) -> Floats:
        angles: Floats = np.asarray(super()._angles(update, checked=checked) + self._phase)
        return angles
