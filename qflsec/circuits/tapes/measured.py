"""What tapes measure, and how it is computed from the real rows of a state (:mod:`qflsec.circuits.frames`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.errors import NotAffine
from qflsec.circuits.frames import SignedPermutation, pauli_word, wires_first
from qflsec.circuits.permute import Gather
from qflsec.circuits.tapes.lower import as_tensor
from qflsec.circuits.tapes.steps import apply_matrix
from qflsec.circuits.tapes.structure import Measured

__all__ = ["Values", "read_measurement"]

Value = Callable[[Tensor, Sequence[Tensor]], Tensor]


def read_measurement(measurement: Any, wires: dict[Any, int]) -> tuple[Measured, list[Tensor]]:  # noqa: ANN401
    """A measurement, and its numbers: the coefficients of its Pauli words, or its matrix.

    Raises:
        NotAffine: It is no function of the state, or one of its global phase.
    """
    import pennylane as qml

    known = qml.measurements
    if type(measurement) is known.ExpectationMP and measurement.obs is not None:
        return _read_observable(measurement.obs, "expval", wires)
    if type(measurement) is known.VarianceMP and measurement.obs is not None:
        return _read_observable(measurement.obs, "var", wires)
    if type(measurement) is known.ProbabilityMP and measurement.obs is None:
        return Measured("probs", wires=tuple(wires[label] for label in measurement.wires or wires)), []
    whole = type(measurement) is known.StateMP or measurement.obs is not None
    if whole or not isinstance(measurement, known.StateMeasurement):
        raise NotAffine("the QNode returns what is no function of the state", got=measurement)
    return Measured("state", process=measurement.map_wires(wires)), []


def _read_observable(
    operator: Any,  # noqa: ANN401
    kind: Literal["expval", "var"],
    wires: dict[Any, int],
) -> tuple[Measured, list[Tensor]]:
    import pennylane as qml

    sentence = operator.pauli_rep
    if sentence is None:
        places = tuple(wires[label] for label in operator.wires)
        return Measured(kind, wires=places), [as_tensor(qml.matrix(operator, wire_order=operator.wires))]
    words = tuple("".join(word.get(label, "I") for label in wires) for word in sentence)
    return Measured(kind, words=words), [as_tensor(value) for value in sentence.values()]


class Values:
    """The measured values of one tape."""

    def __init__(self, measured: Sequence[Measured], n_wires: int, like: Tensor) -> None:
        expected = [one for one in measured if one.kind == "expval"]
        words = list(dict.fromkeys(word for one in expected for word in one.words))
        self._words = _Words(words, n_wires, like) if words else None
        self._places = [[words.index(word) for word in one.words if one.kind == "expval"] for one in measured]
        self._others = [_function(one, n_wires, like) for one in measured]
        self._counts = [len(one.words) or int(one.kind in ("expval", "var")) for one in measured]

    def __call__(self, psi: Tensor, numbers: Sequence[Tensor]) -> list[Tensor]:
        """The values of each measurement, from the state and the measurements' numbers.

        Shapes:
            psi: ``(rows, 2 * 2**n, 1)``; returns: ``(rows,)``, or ``(rows, ...)`` for what is no number.
        """
        words = self._words(psi) if self._words else []
        found, start = [], 0
        for places, other, count in zip(self._places, self._others, self._counts, strict=True):
            own = [number.to(_kind(number, psi)) for number in numbers[start : start + count]]
            start += count
            if places:
                terms = [c.real * words[place] for c, place in zip(own, places, strict=True)]
                found.append(torch.stack(terms).sum(0) if len(terms) > 1 else terms[0])
            else:
                found.append(other(psi, own))
        return found


def _kind(number: Tensor, psi: Tensor) -> torch.dtype:
    """The real or complex type of the state's precision."""
    return psi.dtype.to_complex() if number.is_complex() else psi.dtype


class _Words:
    """Expectation values of Pauli words, those that move rows alike together."""

    def __init__(self, words: Sequence[str], n: int, like: Tensor) -> None:
        groups: dict[bytes, tuple[SignedPermutation, list[int], list[Any]]] = {}
        for place, word in enumerate(words):
            form = _word(word, n)
            _, places, signs = groups.setdefault(form.index.tobytes(), (form, [], []))
            places.append(place)
            signs.append(form.sign)
        self._groups = [
            (_moving(form, like), torch.from_numpy(np.stack(signs)).to(like)[None])
            for form, _, signs in groups.values()
        ]
        order = [place for _, places, _ in groups.values() for place in places]
        self._order = [order.index(place) for place in range(len(words))]

    def __call__(self, psi: Tensor) -> list[Tensor]:
        """Each word's values ``(rows,)``."""
        parts = [
            torch.bmm(signs.expand(len(psi), -1, -1), psi.square() if gather is None else psi * gather(psi))
            for gather, signs in self._groups
        ]
        columns = torch.cat(parts, dim=1)[..., 0].unbind(1)
        return [columns[place] for place in self._order]


def _word(word: str, n: int) -> SignedPermutation:
    return pauli_word({wire: letter for wire, letter in enumerate(word) if letter != "I"}, n)


def _moving(form: SignedPermutation, like: Tensor) -> Gather | None:
    """What moves rows, without the signs."""
    return Gather(SignedPermutation(form.index, np.ones_like(form.sign)), like) if form.moves else None


def _function(measured: Measured, n: int, like: Tensor) -> Value:
    """The values of a measurement that is no expectation value of words."""
    if measured.kind == "state":
        process = measured.process
        return lambda psi, _: as_tensor(process.process_state(_amplitudes(psi), _order(n))).to(psi.dtype)
    if measured.kind == "probs":
        return _probabilities(measured.wires, n, like)
    applied = _sentence(measured.words, n, like) if measured.words else _matrix(measured.wires, n, like)

    def moments(psi: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        image = applied(psi, numbers)
        mean = (psi * image).sum((1, 2))
        return mean if measured.kind == "expval" else image.square().sum((1, 2)) - mean.square()

    return moments


def _amplitudes(psi: Tensor) -> Tensor:
    return torch.complex(*psi[..., 0].chunk(2, dim=1))


def _order(n: int) -> Any:  # noqa: ANN401 - PennyLane's wires
    import pennylane as qml

    return qml.wires.Wires(range(n))


def _probabilities(wires: Sequence[int], n: int, like: Tensor) -> Value:
    first = Gather(wires_first(wires, n), like)
    return lambda psi, _: first(psi).square().reshape(len(psi), 2, 2 ** len(wires), -1).sum((1, 3))


def _sentence(words: Sequence[str], n: int, like: Tensor) -> Value:
    """A sum of Pauli words on a state."""
    gathers = [Gather(_word(word, n), like) for word in words]

    def image(psi: Tensor, numbers: Sequence[Tensor]) -> Tensor:
        terms = [c.real.reshape(-1, 1, 1) * gather(psi) for c, gather in zip(numbers, gathers, strict=True)]
        return torch.stack(terms).sum(0)

    return image


def _matrix(wires: Sequence[int], n: int, like: Tensor) -> Value:
    """A matrix on some wires of a state."""
    first = Gather(wires_first(wires, n), like)
    return lambda psi, numbers: first.back(apply_matrix(numbers[0], first(psi)))
