"""How many copies of a protected record's state a training run measures.

A single-copy epsilon is not the epsilon of a gradient: every shot of every circuit that encodes the record uses up
a copy. Circuits of other records do not count: their outcomes do not depend on the protected one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qflsec.base import finite
from qflsec.circuits import Circuit, measurement_groups, shift_count
from qflsec.protocols.qdp.errors import QdpError

__all__ = ["Copies", "Gradient", "copies_of"]

Gradient = Literal["parameter-shift", "shifts-only", "spsa", "none"]


@finite
@dataclass(frozen=True, kw_only=True)
class Copies:
    """The copies that a run measures of one record.

    Attributes:
        shots: Shots of every circuit and group of observables; None for an analytic expectation value, which is
            the limit of infinitely many.
        circuits: Circuits of one gradient of one record, over all groups of observables.
        uses_per_round: How often the record is used in a round: local steps in whose batch it is.
        rounds: Rounds.

    Raises:
        QdpError: A number below 1.
    """

    shots: int | None
    circuits: int
    uses_per_round: int = 1
    rounds: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers below 1."""
        for name in ("shots", "circuits", "uses_per_round", "rounds"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise QdpError(f"bad number of {name}", got=value, expected="a whole number from 1")

    @classmethod
    def of_rule(
        cls,
        gradient: Gradient,
        *,
        parameters: int,
        shots: int | None,
        groups: int = 1,
        uses_per_round: int = 1,
        rounds: int = 1,
    ) -> Copies:
        """Copies from the gradient rule, where every parameter is the angle of one two-term gate.

        Args:
            gradient: ``"parameter-shift"``: 2 P shifted circuits and one for the value, which the loss needs;
                ``"shifts-only"``: the 2 P alone; ``"spsa"``: 2 and the value; ``"none"``: the value alone.
            parameters: P.
            shots: As for the class.
            groups: Groups of observables that cannot be read off the same shots; each takes shots of its own.
            uses_per_round: As for the class.
            rounds: As for the class.

        Raises:
            QdpError: An unknown rule, or a number below 1.
        """
        count = {"parameter-shift": 2 * parameters + 1, "shifts-only": 2 * parameters, "spsa": 3, "none": 1}
        if gradient not in count:
            raise QdpError("unknown gradient rule", got=repr(gradient), expected=f"one of {', '.join(count)}")
        if min(parameters, groups) < 1:
            raise QdpError("no parameters or groups", got=f"{parameters} and {groups}", expected="1 or more")
        return cls(
            shots=shots, circuits=count[gradient] * groups, uses_per_round=uses_per_round, rounds=rounds
        )

    @property
    def total(self) -> int | None:
        """All copies; None where they are infinitely many."""
        if self.shots is None:
            return None
        return self.shots * self.circuits * self.uses_per_round * self.rounds


def copies_of(circuit: Circuit, *, shots: int | None, uses_per_round: int = 1, rounds: int = 1) -> Copies:
    """The copies of a real circuit's parameter-shift training: its own shifts (four for a controlled rotation).

    One evaluation for the value and one for every shift, each times the groups of observables.
    """
    circuits = (shift_count(circuit) + 1) * len(measurement_groups(circuit))
    return Copies(shots=shots, circuits=circuits, uses_per_round=uses_per_round, rounds=rounds)
