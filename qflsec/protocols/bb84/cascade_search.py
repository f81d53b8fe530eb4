"""The public half of Cascade: which parities are asked next, and what the answers show.

It knows no key. Everything in it follows from the two parties' announced parities and a public seed, so that
each party keeps its own copy and both stay equal as long as nobody alters a message.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from qflsec.base import ProtocolAbort
from qflsec.protocols.bb84.cascade_variants import Schedule

__all__ = ["Question", "Search", "shuffle"]

Bits = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
_NONE: Ints = np.empty(0, dtype=np.int64)


def shuffle(seed: bytes, number: int, n: int) -> Ints:
    """A public pseudo-random order of ``n`` positions, equal for all who know the seed.

    It spreads errors over blocks and no security rests on it. Positions are sorted by 16 random bits, where
    equal ones keep their order.
    """
    key = hashlib.sha256(seed + number.to_bytes(4, "big")).digest()
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(2 * n))
    return np.argsort(np.frombuffer(stream, dtype=np.uint16), kind="stable")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Intervals whose parities both parties announce next.

    Attributes:
        number: The pass in whose order the intervals lie.
        low: Where each starts.
        high: Where each ends.
    """

    number: int
    low: Ints
    high: Ints


class _Pass:
    """One pass: an order of the key, cut at every boundary up to which the parity difference is known.

    Attributes:
        order: Key position at each place of the pass; None for the identity.
        size: Places to a block.
        bounds: All known boundaries, ascending; every block boundary is one.
        odd: For each interval between them, whether the keys differ there in an odd number of bits.
        odd_block: The same for each block.
    """

    def __init__(self, order: Ints | None, size: int, n: int) -> None:
        self.order = order
        self._place: Ints | None = None
        if order is not None:
            self._place = np.empty(n, dtype=np.int64)
            self._place[order] = np.arange(n)
        self.size = size
        self.bounds = np.append(np.arange(0, n, size), n)
        self.odd = np.zeros(self.bounds.size - 1, dtype=np.uint8)
        self.odd_block = np.zeros(self.bounds.size - 1, dtype=np.uint8)
        self._flips = _NONE
        self._seen = 0

    def places(self, positions: Ints) -> Ints:
        """Where key positions lie in this pass."""
        return positions if self._place is None else self._place[positions]

    def positions(self, places: Ints) -> Ints:
        """Which key positions lie at these places."""
        return places if self.order is None else self.order[places]

    def flipped_between(self, flips: list[Ints], low: Ints, high: Ints) -> Bits:
        """Parity of the flips so far within each interval."""
        if self._seen < len(flips):
            new = np.sort(self.places(np.concatenate(flips[self._seen :])))
            self._flips = np.insert(self._flips, np.searchsorted(self._flips, new), new)
            self._seen = len(flips)
        inside = np.searchsorted(self._flips, high) - np.searchsorted(self._flips, low)
        return (inside & 1).astype(np.uint8)

    def toggle(self, positions: Ints) -> None:
        """Note that these bits were flipped."""
        places = self.places(positions)
        inside = np.searchsorted(self.bounds, places, side="right") - 1
        self.odd ^= _parity_of_counts(inside, self.odd.size)
        self.odd_block ^= _parity_of_counts(places // self.size, self.odd_block.size)

    def split(self, bounds: Ints) -> None:
        """Add boundaries; the new right-hand parts count as even."""
        new = np.sort(bounds)
        at = np.searchsorted(self.bounds, new)
        self.bounds = np.insert(self.bounds, at, new)
        self.odd = np.insert(self.odd, at, 0)

    def candidates(self, *, reuse: bool) -> Ints:
        """Odd intervals to search: all of them, or the shortest in each odd block."""
        odd = np.flatnonzero(self.odd)
        if reuse or not odd.size:
            return odd
        block = self.bounds[odd] // self.size
        searched = self.odd_block[block] == 1
        odd, block = odd[searched], block[searched]
        by_length = np.lexsort((self.bounds[odd + 1] - self.bounds[odd], block))
        _, shortest = np.unique(block[by_length], return_index=True)
        return np.sort(odd[by_length[shortest]])


def _parity_of_counts(values: Ints, size: int) -> Bits:
    return (np.bincount(values, minlength=size) & 1).astype(np.uint8)


class Search:
    """Cascade's search for the bits in which two keys differ.

    Within one pass all odd intervals are searched at once, since they are disjoint; a bit that is found may
    make intervals of other passes odd, and passes with short blocks go first. A parity that was announced
    before, or follows from others, is never asked again.

    Args:
        schedule: The schedule.
        qber: The expected error rate.
        n: Length of the key.
        seed: Public seed of the shuffles, drawn after the last pulse.

    Source:
        Brassard and Salvail, EUROCRYPT '93; Martinez-Mateo et al., Quantum Inf. Comput. 15, 453 (2015).
    """

    def __init__(self, schedule: Schedule, qber: float, n: int, seed: bytes) -> None:
        self._n, self._seed, self._reuse = n, seed, schedule.reuse
        self._sizes = schedule.block_sizes(qber, n)
        # Honest runs flip each wrong bit once; contradictory parities would make the search run in circles.
        self._most_flips = 100 + int(4.0 * n * max(qber, 0.01))
        self._passes: list[_Pass] = []
        self._flips: list[Ints] = []
        self._n_flips = 0
        self._total: int | None = None
        self._searching = False
        self._low = self._high = self._middle = _NONE
        self._found: list[Ints] = []
        self._cuts: list[Ints] = []
        self.question: Question | None = None
        self._next_pass()

    @property
    def flips(self) -> Ints:
        """Positions found wrong, in the order found; a position found twice is right again."""
        return np.concatenate(self._flips) if self._flips else _NONE

    def order(self, number: int) -> Ints | None:
        """The order of one pass; None for the key's own."""
        return self._passes[number].order

    def answer(self, difference: Bits) -> None:
        """Take in whether the parties' parities differ, for each interval of the question.

        Args:
            difference: Of the parities of the original keys, 0/1.

        Raises:
            ProtocolAbort: Far more bits seem wrong than expected, as when altered answers contradict each other.
        """
        assert self.question is not None
        question, current = self.question, self._passes[self.question.number]
        odd = difference ^ current.flipped_between(self._flips, question.low, question.high)
        if self._searching:
            self._halve(odd.astype(np.bool_))
        else:
            self._take_blocks(current, odd)
        self._advance()

    def _advance(self) -> None:
        """Go on to the next question, through all that needs none."""
        while True:
            if self._searching and self._low.size:
                self._middle = (self._low + self._high) >> 1
                self.question = Question(number=self._number, low=self._low, high=self._middle)
                return
            if self._searching:
                self._flip()
            if self._start_search():
                continue
            if len(self._passes) == len(self._sizes):
                self.question = None
                return
            if self._next_pass():
                return

    def _next_pass(self) -> bool:
        """Open a pass; false if its parities follow from what is known."""
        number = len(self._passes)
        order = shuffle(self._seed, number, self._n) if number else None
        opened = _Pass(order, self._sizes[number], self._n)
        self._passes.append(opened)
        self._searching = False
        # The parity of the whole key is known after the first pass, and the last block's with it.
        last = None if self._total is None else -1
        low, high = opened.bounds[:-1][:last], opened.bounds[1:][:last]
        self.question = Question(number=number, low=low, high=high)
        if not low.size:
            self._take_blocks(opened, np.empty(0, dtype=np.uint8))
        return bool(low.size)

    def _take_blocks(self, opened: _Pass, odd: Bits) -> None:
        if self._total is None:
            self._total = int(odd.sum(dtype=np.int64)) & 1
        else:
            rest = (self._total + self._n_flips + int(odd.sum(dtype=np.int64))) & 1
            odd = np.append(odd, np.uint8(rest))
        opened.odd, opened.odd_block = odd.astype(np.uint8), odd.astype(np.uint8)

    def _start_search(self) -> bool:
        for number, each in enumerate(self._passes):
            chosen = each.candidates(reuse=self._reuse)
            if chosen.size:
                self._number, self._searching = number, True
                self._low, self._high = each.bounds[chosen], each.bounds[chosen + 1]
                self._found, self._cuts = [], []
                self._set_aside()
                return True
        return False

    def _halve(self, left: npt.NDArray[np.bool_]) -> None:
        self._cuts.append(self._middle)
        self._low, self._high = (
            np.where(left, self._low, self._middle),
            np.where(left, self._middle, self._high),
        )
        self._set_aside()

    def _set_aside(self) -> None:
        """Take intervals of one bit out of the search: they are found."""
        done = self._high - self._low == 1
        if done.any():
            self._found.append(self._low[done])
            self._low, self._high = self._low[~done], self._high[~done]

    def _flip(self) -> None:
        """Flip the bits found, one in each searched interval; every part of it is even afterwards."""
        self._searching = False
        current = self._passes[self._number]
        positions = current.positions(np.concatenate(self._found))
        self._n_flips += positions.size
        if self._n_flips > self._most_flips:
            raise ProtocolAbort("too many corrections")
        for each in self._passes:
            each.toggle(positions)
        if self._cuts:
            current.split(np.concatenate(self._cuts))
        self._flips.append(positions)
