"""A party's secret bits for authentication: a hash key, which serves every round, and pads, each used once.

A pad belongs to one direction: Alice's pads encrypt her tags and nobody else's. If a pad could encrypt a tag of
Alice's in one round and a tag of Bob's in another, their difference would be that of two hashes, and would give
the hash key away.

A round that breaks off may leave a pad used at one end and not at the other. So each round begins with both parties
saying which pads they still have, and uses the first that both have. What they say is not authenticated before the
end of the round. A false claim makes the round fail, as any altered message does, and a party uses up one pad of each
direction at most, whatever it was told: nothing else can be wasted.

So a spoiled round of one tag for each direction takes at most two pads of a direction from those that both have: one
at each end. :func:`spoiled_rounds` counts them. The first key after it brings the pool back to its level.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qflsec.base import ConfigError, ProtocolAbort
from qflsec.protocols.bb84.transcript import PartyName

__all__ = [
    "BLOCK_BYTES",
    "SPEAKERS",
    "TAG_BITS",
    "KeyPool",
    "PoolState",
    "common_pads",
    "laid_out",
    "preshared_bits",
    "spoiled_rounds",
]

BLOCK_BYTES = 16
TAG_BITS = 128
SPEAKERS: tuple[PartyName, PartyName] = ("alice", "bob")
_HEAD = struct.Struct(">3Q")
_MOST_PLACES = 1 << 20


def preshared_bits(tags: int) -> int:
    """Secret bits that a first round with ``tags`` tags uses: the hash key and one pad for each tag."""
    return TAG_BITS * (1 + tags)


def spoiled_rounds(pads: int, *, tags: int) -> int:
    """How many spoiled rounds ``pads`` pads survive, so that one more round can be authenticated, whatever Eve does.

    Args:
        pads: Pads that both parties have, for both directions together and as many for each: see :func:`common_pads`.
        tags: The most tags of a round, likewise.
    """
    return max(0, (pads // tags - 1) // 2)


def common_pads(one: KeyPool, other: KeyPool) -> int:
    """What a round can rest on: twice the pads that both pools have for the direction that has fewer.

    Eve may spoil rounds so that one direction alone loses pads, and others at one end than at the other. What a party
    counts in its own pool then says too much.
    """
    return 2 * min(len(one.state(speaker).free & other.state(speaker).free) for speaker in SPEAKERS)


@dataclass(frozen=True, kw_only=True)
class PoolState:
    """Which pads of one direction a party still has; public.

    Attributes:
        level: How many it is to have after each successful round.
        end: The place after the last that it ever had.
        free: The places of those that it has.
    """

    level: int
    end: int
    free: frozenset[int]

    def to_bytes(self) -> bytes:
        """As it is said: three numbers, and a bit for each place from the first free one on."""
        low = min(self.free, default=self.end)
        flags = np.zeros(self.end - low, dtype=np.uint8)
        flags[[place - low for place in self.free]] = 1
        return _HEAD.pack(self.level, low, self.end) + np.packbits(flags).tobytes()

    @classmethod
    def read(cls, payload: bytes) -> tuple[PoolState, bytes]:
        """The state at the beginning of a message, and the rest of it.

        Raises:
            ProtocolAbort: There is none.
        """
        if len(payload) < _HEAD.size:
            raise ProtocolAbort("malformed message")
        level, low, end = _HEAD.unpack_from(payload)
        stop = _HEAD.size + -(-(end - low) // 8)
        if not 0 <= end - low <= _MOST_PLACES or len(payload) < stop:
            raise ProtocolAbort("malformed message")
        flags = np.unpackbits(np.frombuffer(payload[_HEAD.size : stop], dtype=np.uint8), count=end - low)
        free = frozenset(int(place) + low for place in np.flatnonzero(flags))
        return cls(level=level, end=end, free=free), payload[stop:]


class KeyPool:
    """One party's pool, in memory.

    Args:
        preshared: Secret bytes that the other party holds too; 16 for the hash key, then 16 for each pad, which serve
            the two directions in turn.

    Attributes:
        spent: Pads used by this object.

    Raises:
        ConfigError: There is not one pad for each direction.
    """

    def __init__(self, preshared: bytes) -> None:
        self._hash_key, self._pads = laid_out(preshared)
        self._ends = {speaker: len(pads) for speaker, pads in self._pads.items()}
        self._levels = dict(self._ends)
        self._refills, self._eps = 0, 0.0
        self._start()

    def _start(self) -> None:
        self.spent = 0
        self._agreed: dict[PartyName, list[int]] | None = None
        self._new_ends: Mapping[PartyName, int] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pads_left={self.pads_left}, level={self.level})"

    @property
    def hash_key(self) -> bytes:
        """The key of the polynomial hash; it serves every round."""
        return bytes(self._hash_key)

    @property
    def refills(self) -> int:
        """How often new key was added: 0 in a first round."""
        return self._refills

    @property
    def eps(self) -> float:
        """How far all pads together may be from ideal ones: the epsilons of the blocks that they were taken from."""
        return self._eps

    @property
    def level(self) -> int:
        """Pads to which each key brings the pool back."""
        return sum(self.state(speaker).level for speaker in SPEAKERS)

    @property
    def pads_left(self) -> int:
        """Tags that can still be made or checked."""
        return sum(len(self.state(speaker).free) for speaker in SPEAKERS)

    def state(self, speaker: PartyName) -> PoolState:
        """Which pads there are for the tags of one party."""
        return PoolState(
            level=self._levels[speaker], end=self._ends[speaker], free=frozenset(self._pads[speaker])
        )

    def says(self) -> bytes:
        """The states of both directions, for the other party."""
        return b"".join(self.state(speaker).to_bytes() for speaker in SPEAKERS)

    def agree(self, heard: bytes) -> None:
        """Keep to the pads that both parties have, for this round.

        Args:
            heard: What the other party says of its own.

        Raises:
            ProtocolAbort: The claim is malformed, the pools are not of one pair, or no pad is left; none was used.
        """
        agreed: dict[PartyName, list[int]] = {}
        ends: dict[PartyName, int] = {}
        for speaker in SPEAKERS:
            theirs, heard = PoolState.read(heard)
            own = self.state(speaker)
            if theirs.level != own.level:
                raise ProtocolAbort("the authentication pools have different levels")
            agreed[speaker] = sorted(own.free & theirs.free)
            ends[speaker] = max(own.end, theirs.end)
        if heard:
            raise ProtocolAbort("malformed message")
        if not all(agreed.values()):
            raise ProtocolAbort("authentication key exhausted")
        self._agreed, self._new_ends = agreed, ends

    def pad(self, speaker: PartyName) -> bytes:
        """The next pad for a tag of ``speaker``, which is erased before anybody has it.

        Raises:
            ProtocolAbort: No pad is left.
        """
        places = self._usable()[speaker]
        if not places:
            raise ProtocolAbort("authentication key exhausted")
        self.spent += 1
        return self._burn(speaker, places.pop(0))

    def refill(self, key: bytes, *, eps: float) -> int:
        """Bring the pool back to its level from the beginning of a new key, as far as it goes.

        Both parties take the same bytes: what they said of their pads is authenticated by now, and pads that only one
        of them has are dropped.

        Args:
            key: The new key.
            eps: How far it may be from an ideal one, the epsilon of the pads that authenticated it left aside.

        Returns:
            How many bytes of the key went into the pool.
        """
        kept = self._usable()
        ends = self._new_ends or {speaker: self.state(speaker).end for speaker in SPEAKERS}
        wanted = [self.state(speaker).level - len(kept[speaker]) for speaker in SPEAKERS]
        added: dict[PartyName, dict[int, bytes]] = {speaker: {} for speaker in SPEAKERS}
        taken = 0
        for turn in _turns(wanted, len(key) // BLOCK_BYTES):
            speaker = SPEAKERS[turn]
            place = ends[speaker] + len(added[speaker])
            added[speaker][place] = key[taken : taken + BLOCK_BYTES]
            taken += BLOCK_BYTES
        self._store(kept, added, ends, eps)
        self._agreed, self._new_ends = None, {}
        return taken

    def _usable(self) -> dict[PartyName, list[int]]:
        if self._agreed is None:
            self._agreed = {speaker: sorted(self.state(speaker).free) for speaker in SPEAKERS}
        return self._agreed

    def _burn(self, speaker: PartyName, place: int) -> bytes:
        pad = self._pads[speaker].pop(place)
        taken = bytes(pad)
        pad[:] = bytes(BLOCK_BYTES)
        return taken

    def _store(
        self,
        kept: Mapping[PartyName, list[int]],
        added: Mapping[PartyName, Mapping[int, bytes]],
        ends: Mapping[PartyName, int],
        eps: float,
    ) -> None:
        """All of a refill, or nothing."""
        for speaker in SPEAKERS:
            pads = self._pads[speaker]
            self._pads[speaker] = {place: pads[place] for place in kept[speaker]}
            self._pads[speaker].update((place, bytearray(pad)) for place, pad in added[speaker].items())
            self._ends[speaker] = ends[speaker] + len(added[speaker])
        self._refills += 1
        self._eps += eps


def laid_out(preshared: bytes) -> tuple[bytes, dict[PartyName, dict[int, bytearray]]]:
    """The hash key and the pads of each direction, by place, of a secret that was shared beforehand.

    Raises:
        ConfigError: There is not one pad for each direction.
    """
    if len(preshared) < (1 + len(SPEAKERS)) * BLOCK_BYTES:
        raise ConfigError(
            "too little key shared beforehand",
            got=f"{8 * len(preshared)} bits",
            expected=f"at least {preshared_bits(len(SPEAKERS))} bits",
        )
    whole = len(preshared) // BLOCK_BYTES * BLOCK_BYTES
    blocks = [bytearray(preshared[at : at + BLOCK_BYTES]) for at in range(0, whole, BLOCK_BYTES)]
    return bytes(blocks[0]), {
        speaker: dict(enumerate(blocks[1 + turn :: 2])) for turn, speaker in enumerate(SPEAKERS)
    }


def _turns(wanted: list[int], most: int) -> Iterator[int]:
    """Whose turn it is, until nobody wants more or ``most`` are given: the directions alternate."""
    left = list(wanted)
    given = 0
    while given < most and any(n > 0 for n in left):
        for turn in range(len(left)):
            if left[turn] > 0 and given < most:
                left[turn] -= 1
                given += 1
                yield turn
