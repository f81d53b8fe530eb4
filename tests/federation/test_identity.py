from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from qflsec.base import ProtocolAbort, SeededSecrets
from qflsec.federation import Identity
from qflsec.threat import SERVER, Party, client

PARTIES = (client(0), client(1), SERVER)
_STATEMENT = b"".join(
    len(part).to_bytes(4, "little") + part
    for part in (b"qflsec/signature/2", b"ed25519", b"client:0", b"context", b"body")
)


def _secrets() -> dict[Party, SeededSecrets]:
    return {party: SeededSecrets(place) for place, party in enumerate(PARTIES)}


def test_signatures_are_those_of_another_implementation() -> None:
    identities, secrets = Identity.of_all(PARTIES, _secrets()), _secrets()
    key = Ed25519PrivateKey.from_private_bytes(secrets[client(0)].draw(32))
    signed = b"body" + key.sign(_STATEMENT)
    assert identities[client(0)].directory[client(0)] == key.public_key().public_bytes_raw()
    assert identities[client(0)].sign(b"body", b"context") == signed
    assert identities[SERVER].verify(client(0), signed, b"context") == b"body"


def test_every_bit_and_every_length_counts() -> None:
    identities = Identity.of_all(PARTIES, _secrets())
    signed = identities[client(0)].sign(b"body", b"context")
    flipped = [
        bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(signed))
        for bit in range(8 * len(signed))
    ]
    for wrong in (*flipped, *(signed[:size] for size in range(len(signed))), signed + b"\x00"):
        with pytest.raises(ProtocolAbort):
            identities[SERVER].verify(client(0), wrong, b"context")
    for author, context in ((client(1), b"context"), (client(0), b"another")):
        with pytest.raises(ProtocolAbort):
            identities[SERVER].verify(author, signed, context)


def test_a_signature_cut_short_borrows_nothing_from_the_statement() -> None:
    identities = Identity.of_all(PARTIES, _secrets())
    joined = identities[client(0)].sign(b"", b"context")
    for size in range(len(joined)):
        with pytest.raises(ProtocolAbort, match="no whole signature"):
            identities[SERVER].verify(client(0), joined[:size], b"context")


@pytest.mark.parametrize("public", [b"", b"short", bytes(33), bytes(32), (1).to_bytes(32, "little")])
def test_a_directory_with_no_key_is_no_key(public: bytes) -> None:
    identity = Identity.of_all(PARTIES, _secrets())[SERVER]
    broken = Identity(party=SERVER, directory={client(0): public}, _key=identity._key)
    forged = (1).to_bytes(32, "little") + bytes(32)  # good under the neutral point, where it counts as a key
    with pytest.raises(ProtocolAbort):
        broken.verify(client(0), b"body" + forged, b"context")


def test_what_is_checked_once_for_all_is_what_each_would_find() -> None:
    """Right messages alone are remembered: with their author's key, their context and every byte."""
    identities = Identity.of_all(PARTIES, _secrets(), checked_once=True)
    signed = identities[client(0)].sign(b"body", b"context")
    wrong = signed[:-1] + bytes([signed[-1] ^ 1])
    for receiver in (client(1), SERVER):
        for _ in range(2):
            assert identities[receiver].verify(client(0), signed, b"context") == b"body"
            for author, said, context in (
                (client(0), wrong, b"context"),
                (client(1), signed, b"context"),
                (client(0), signed, b"another"),
                (client(0), b"x" + signed, b"context"),
            ):
                with pytest.raises(ProtocolAbort):
                    identities[receiver].verify(author, said, context)
    assert identities[SERVER].known == {(identities[SERVER].directory[client(0)], signed[4:] + _STATEMENT)}
    assert Identity.of_all(PARTIES, _secrets())[SERVER].known is None, "parties check for themselves"
