"""What a tape does, apart from its numbers: a value that equal tapes share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from qflsec.circuits.errors import NotAffine

__all__ = ["Measured", "Step", "Structure"]


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        kind: A gate of the kernel's set with its angles, any gate by its matrix, or amplitudes of some wires, the
            others being in state 0.
        wires: Where it acts, the most significant wire first.
        name: The gate's name in our set; ``"Projector"`` for a matrix that is one.
    """

    kind: Literal["gate", "matrix", "amplitudes"]
    wires: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        kind: What is returned; ``"state"`` is any other function of the state that PennyLane computes itself.
        words: The Pauli words of the observable, a number for each of which is given.
        wires: The wires of an observable given by its matrix, or of the probabilities.
        process: PennyLane's measurement, for ``"state"``.
    """

    kind: Literal["expval", "var", "probs", "state"]
    words: tuple[str, ...] = ()
    wires: tuple[int, ...] = ()
    process: Any = None

    def beside(self, more: int) -> Measured:
        """The same where further wires follow that are not measured.

        Raises:
            NotAffine: It is a function of all wires.
        """
        if more and self.kind == "state" and not self.process.wires:
            raise NotAffine("the QNode returns a function of the whole state, which channels mix")
        return replace(self, words=tuple(word + more * "I" for word in self.words))


@dataclass(frozen=True)
class Structure:
    """A tape without its numbers.

    Attributes:
        n_wires: Wires of the register.
        steps: The operations; each takes as many numbers as its gate has angles, a matrix or a vector of amplitudes.
        measured: The measurements; each takes the coefficients of its words, or its matrix.
    """

    n_wires: int
    steps: tuple[Step, ...]
    measured: tuple[Measured, ...]
