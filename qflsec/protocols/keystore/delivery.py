"""From a distilled block of key to the stores: each side cuts its own copy, and both cut alike."""

from __future__ import annotations

from typing import Literal
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError
from qflsec.protocols.epsilons import Epsilons, KeyBlock
from qflsec.protocols.keystore.keys import KeyLink, QkdKey
from qflsec.protocols.keystore.store import KeyStore

__all__ = ["cut", "stock"]


def cut(
    bits: npt.NDArray[np.uint8],
    *,
    block: UUID,
    epsilons: Epsilons | None,
    key_bits: int,
    simulated_channel: bool,
    seeded: bool,
) -> tuple[QkdKey, ...]:
    """One side's copy of a block as keys of one length; what is left at the end is dropped.

    Args:
        bits: The block, as 0/1: what a party of the post-processing holds as its ``key``.
        block: The public name of the block; the identifiers of its keys follow from it.
        epsilons: How far the block may be from an ideal one; every key carries them. None where they are unknown.
        key_bits: The length of a key.
        simulated_channel: Whether the quantum channel was simulated.
        seeded: Whether the block can be reproduced.

    Raises:
        ConfigError: The length is out of range.
    """
    if key_bits < 8 or key_bits % 8:
        raise ConfigError("'key_bits' is out of range", got=key_bits, expected="8, 16, 24 ...")
    n_keys = len(bits) // key_bits
    origin = KeyBlock(name=block, epsilons=epsilons, n_keys=n_keys) if epsilons and n_keys else None
    return tuple(
        QkdKey(
            key_id=uuid5(block, f"key {index}"),
            material=np.packbits(bits[index * key_bits : (index + 1) * key_bits]).tobytes(),
            simulated_channel=simulated_channel,
            seeded=seeded,
            block=origin,
        )
        for index in range(n_keys)
    )


def stock(
    store: KeyStore,
    bits: npt.NDArray[np.uint8],
    *,
    side: Literal["alice", "bob"],
    alice: str,
    bob: str,
    block: UUID,
    epsilons: Epsilons | None,
    key_bits: int,
    simulated_channel: bool,
    seeded: bool,
) -> int:
    """Put one side's copy of a block into its store; the keys serve the two directions in turn.

    Args:
        store: The store of this side.
        bits: This side's copy of the block, as 0/1.
        side: Which side this is.
        alice: Alice's name as an application.
        bob: Bob's.
        block: The public name of the block.
        epsilons: How far it may be from an ideal one, as its distillation says; None where they are unknown.
        key_bits: The length of a key.
        simulated_channel: Whether the quantum channel was simulated.
        seeded: Whether the block can be reproduced.

    Returns:
        The number of keys.

    Raises:
        StoreError: The block was stored before, or there is no room.
    """
    keys = cut(
        bits, block=block, epsilons=epsilons, key_bits=key_bits, simulated_channel=simulated_channel, seeded=seeded
    )  # fmt: skip
    forth, back = KeyLink(master=alice, slave=bob), KeyLink(master=bob, slave=alice)
    store.add(keys[::2], link=forth, role="master" if side == "alice" else "slave")
    store.add(keys[1::2], link=back, role="slave" if side == "alice" else "master")
    return len(keys)
