"""What a QNode measures, as observables: expectation values and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from qflsec.circuits.circuit import Observable
from qflsec.circuits.errors import NotAffine

__all__ = ["measures_probabilities", "probabilities_of", "read_measurements"]

MAX_WIRES = 6
"""Wires of one measurement of probabilities, or of an observable that is given as a matrix."""


def read_measurements(tape: Any, wires: dict[Any, int]) -> tuple[Observable, ...]:  # noqa: ANN401
    """The observables whose expectation values a tape returns, one after the other.

    Raises:
        NotAffine: It returns something else.
    """
    return tuple(one for measurement in tape.measurements for one in _observables(measurement, wires))


def probabilities_of(wires: Sequence[int], n_qubits: int) -> tuple[Observable, ...]:
    """The projectors on the outcomes of some wires, the first of which is the most significant bit.

    A projector on bits b is the sum over all sets of the wires of (-1)**(b's parity there) Z...Z, over 2**k.
    """
    k = len(wires)
    words = []
    for chosen in range(2**k):
        places = {wires[position] for position in range(k) if chosen >> (k - 1 - position) & 1}
        words.append("".join("Z" if wire in places else "I" for wire in range(n_qubits)))
    return tuple(
        Observable(
            tuple(((-1) ** (outcome & chosen).bit_count() / 2**k, word) for chosen, word in enumerate(words))
        )
        for outcome in range(2**k)
    )


def measures_probabilities(tape: Any) -> bool:  # noqa: ANN401
    """Whether a tape returns the probabilities of outcomes and nothing else."""
    import pennylane as qml

    return len(tape.measurements) == 1 and isinstance(tape.measurements[0], qml.measurements.ProbabilityMP)


def _observables(measurement: Any, wires: dict[Any, int]) -> Iterator[Observable]:  # noqa: ANN401
    import pennylane as qml

    if isinstance(measurement, qml.measurements.ProbabilityMP) and measurement.obs is None:
        read = [wires[label] for label in measurement.wires or wires]
        if len(read) > MAX_WIRES:
            raise NotAffine(
                "the QNode returns probabilities of too many wires",
                got=len(read),
                expected=f"at most {MAX_WIRES}",
                fix="measure fewer wires, or expectation values",
            )
        yield from probabilities_of(read, len(wires))
    elif isinstance(measurement, qml.measurements.ExpectationMP) and measurement.obs is not None:
        yield _observable(measurement.obs, wires)
    else:
        raise NotAffine(
            "the QNode returns neither expectation values nor probabilities", got=type(measurement).__name__
        )


def _observable(operator: Any, wires: dict[Any, int]) -> Observable:  # noqa: ANN401
    import pennylane as qml

    if any(isinstance(value, torch.Tensor) and value.requires_grad for value in operator.data):
        raise NotAffine("an observable depends on the inputs", got=operator)
    sentence = operator.pauli_rep
    if sentence is None:  # projectors and Hermitian matrices, alone or in sums
        if len(operator.wires) > MAX_WIRES:
            raise NotAffine(
                "an observable that is no sum of Pauli words has too many wires",
                got=operator,
                expected=f"at most {MAX_WIRES} wires",
            )
        matrix = np.asarray(qml.matrix(operator, wire_order=operator.wires))
        sentence = qml.pauli_decompose(matrix, wire_order=operator.wires, pauli=True)
    terms = []
    for word, coefficient in sentence.items():
        letters = ["I"] * len(wires)
        for label, letter in word.items():
            letters[wires[label]] = letter
        terms.append((float(complex(coefficient).real), "".join(letters)))
    return Observable(tuple(terms) or ((0.0, "I" * len(wires)),))
