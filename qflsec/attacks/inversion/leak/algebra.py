"""The dynamical Lie algebra of a circuit, and the operators that its gradients can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.attacks.inversion.leak.pauli import Floats, anticommute, bracket
from qflsec.attacks.inversion.leak.structure import Structure
from qflsec.base import ConfigError

__all__ = ["Algebra", "Space", "algebra_of", "closure"]

_TOLERANCE = 1e-9
_MAX_DENSE_QUBITS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """A space of operators.

    Attributes:
        words: The Pauli words that span it, where words do.
        basis: An orthonormal basis in coefficients elsewhere.

    Shapes:
        words: ``(d,)``; basis: ``(d, 4**n)``
    """

    words: npt.NDArray[np.int64] | None = None
    basis: Floats | None = None

    @property
    def dimension(self) -> int:
        """Its dimension."""
        return (
            len(self.words) if self.words is not None else len(self.basis if self.basis is not None else ())
        )

    def coordinates(self, vectors: Floats) -> Floats:
        """The coordinates of operators in it.

        Shapes:
            vectors: ``(..., 4**n)``; returns: ``(..., d)``
        """
        if self.words is not None:
            return vectors[..., self.words]
        assert self.basis is not None
        found: Floats = vectors @ self.basis.T
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Algebra:
    """What the trained gates generate.

    Attributes:
        dimension: Of the dynamical Lie algebra: the real span of nested commutators of the generators.
        cap: The most linearly independent derivatives of the measured value that one round can show: the dimension
            of the observable's orbit. Of several observables, of a generic combination.
        visible: The operators that derivatives can show at all, over all weights.
    """

    dimension: int
    cap: int
    visible: Space


def algebra_of(structure: Structure) -> Algebra:
    """The algebra of a circuit, with the fixed gates pulled through the trained ones.

    The derivative of ``U+ O U`` in a weight is ``i [H', U+ O U]`` with H' in the algebra. At one point these span
    the tangent space of the orbit of O under the group, whose dimension is the rank of ``A -> [A, O]`` on the algebra;
    over all points they span the smallest space that contains the ``[H, O]`` and is closed under commutators.

    Raises:
        ConfigError: The circuit is too large for generators or observables that are sums of words.
    """
    n = structure.n_qubits
    generators, observables = structure.generators()
    if not len(generators):
        raise ConfigError("the circuit has no trained gate", fix="add one that reads a weight")
    algebra = closure(generators, generators, n)
    seeds = np.concatenate([bracket(generator, observables, n) for generator in generators])
    visible = closure(seeds, generators, n)
    return Algebra(dimension=algebra.dimension, cap=_cap(algebra, observables, n), visible=visible)


def closure(seeds: Floats, generators: Floats, n: int) -> Space:
    """The smallest space that contains the seeds and all commutators of its elements with the generators.

    Shapes:
        seeds: ``(k, 4**n)``; generators: ``(G, 4**n)``

    Raises:
        ConfigError: Sums of words on too many wires.
    """
    seeds = seeds[np.abs(seeds).max(axis=1, initial=0.0) > _TOLERANCE]
    if _are_words(seeds) and _are_words(generators):
        return Space(words=_word_closure(_words(seeds), _words(generators), n))
    if n > _MAX_DENSE_QUBITS:
        raise ConfigError(
            "generators or observables that are sums of Pauli words span too much",
            got=f"{n} qubits",
            expected=f"at most {_MAX_DENSE_QUBITS}",
        )
    return Space(basis=_dense_closure(seeds, generators, n))


def _are_words(vectors: Floats) -> bool:
    return bool(((np.abs(vectors) > _TOLERANCE).sum(axis=1) == 1).all())


def _words(vectors: Floats) -> list[int]:
    return sorted({int(place) for place in np.abs(vectors).argmax(axis=1)})


def _word_closure(seeds: Sequence[int], generators: Sequence[int], n: int) -> npt.NDArray[np.int64]:
    known = np.zeros(4**n, dtype=bool)
    newest = np.array(seeds, dtype=np.int64)
    while len(newest):
        known[newest] = True
        reached = [newest[anticommute(one, newest, n)] ^ one for one in generators]
        newest = np.unique(np.concatenate(reached))
        newest = newest[~known[newest]]
    return np.flatnonzero(known)


def _dense_closure(seeds: Floats, generators: Floats, n: int) -> Floats:
    generators = _orthonormal(generators, np.zeros((0, 4**n)))
    basis = newest = _orthonormal(seeds, np.zeros((0, 4**n)))
    while len(newest):
        found = np.zeros((0, 4**n))
        for one in generators:
            more = _orthonormal(bracket(one, newest, n), np.concatenate([basis, found]))
            found = np.concatenate([found, more])
        basis, newest = np.concatenate([basis, found]), found
    return basis


def _orthonormal(vectors: Floats, known: Floats) -> Floats:
    """An orthonormal basis of what vectors add to a known one."""
    rest: Floats = vectors - (vectors @ known.T) @ known
    rest = rest - (rest @ known.T) @ known  # once more, against rounding
    rest = rest[np.abs(rest).max(axis=1, initial=0.0) > _TOLERANCE]
    if not len(rest):
        return rest
    _, values, directions = np.linalg.svd(rest, full_matrices=False)
    kept: Floats = directions[values > _TOLERANCE * max(1.0, values[0])]
    return kept


def _cap(algebra: Space, observables: Floats, n: int) -> int:
    """The rank of ``A -> [A, O]`` on the algebra."""
    if algebra.words is not None and len(observables) == 1 and _are_words(observables):
        # images of different words are different words
        return int(anticommute(_words(observables)[0], algebra.words, n).sum())
    weights = np.random.default_rng(0).normal(
        size=len(observables)
    )  # any generic combination has the same rank
    combined = weights @ observables
    if algebra.words is not None:
        basis = np.zeros((algebra.dimension, 4**n))
        basis[np.arange(algebra.dimension), algebra.words] = 1.0
    else:
        assert algebra.basis is not None
        basis = algebra.basis
    images = bracket(combined, basis, n)
    return int(np.linalg.matrix_rank(images, tol=1e-7))
