"""Wegman-Carter tags: the hash against two other computations, forgeries, and what the pool keeps."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, ProtocolAbort, SeededSecrets
from qflsec.protocols.bb84.authentication import (
    Authenticator,
    PolynomialHash,
    _multiply,
    forgery_bound,
)
from qflsec.protocols.bb84.key_pool import KeyPool, preshared_bits

REDUCTION = (1 << 128) | 0x87


def reverse(value: int) -> int:
    return int(f"{value:0128b}"[::-1], 2)


def slow_hash(key: bytes, message: bytes) -> bytes:
    """The same polynomial by schoolbook arithmetic in x^128 + x^7 + x^2 + x + 1, bit 0 the constant."""
    point = reverse(int.from_bytes(key, "big"))
    blocks = [message[i : i + 16].ljust(16, b"\0") for i in range(0, len(message), 16)]
    blocks.append((8 * len(message)).to_bytes(8, "big") + bytes(8))
    value = 0
    for block in blocks:
        value ^= reverse(int.from_bytes(block, "big"))
        product = 0
        for bit in range(128):
            if point >> bit & 1:
                product ^= value << bit
        for bit in range(254, 127, -1):
            if product >> bit & 1:
                product ^= REDUCTION << (bit - 128)
        value = product
    return reverse(value).to_bytes(16, "big")


@settings(deadline=None, max_examples=40)
@given(key=st.binary(min_size=16, max_size=16), message=st.binary(max_size=200))
def test_the_hash_is_the_schoolbook_polynomial(key: bytes, message: bytes) -> None:
    assert PolynomialHash(key)(message) == slow_hash(key, message)


@pytest.mark.parametrize("length", [0, 1, 16, 8175, 8176, 8177, 8192, 50_001])
def test_the_hash_is_ghash(length: int) -> None:
    """AES-GCM's tag of associated data is GHASH at H = AES(0), xor AES(nonce, 1): NIST SP 800-38D, section 7."""
    secrets = SeededSecrets(length, "ghash")
    key, nonce, message = secrets.draw(16), secrets.draw(12), secrets.draw(length)
    encrypt = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    point, pad = encrypt.update(bytes(16)), encrypt.update(nonce + b"\0\0\0\1")
    tag = AESGCM(key).encrypt(nonce, b"", message)
    assert bytes(a ^ b for a, b in zip(PolynomialHash(point)(message), pad, strict=True)) == tag


def test_a_known_answer() -> None:
    """NIST SP 800-38D's GHASH subkey of the all-zero AES-128 key: an empty message hashes to 0."""
    point = bytes.fromhex("66e94bd4ef8a2c3b884cfa59ca342b2e")
    assert PolynomialHash(point)(b"") == bytes(16)


def test_padding_is_injective() -> None:
    hashed = PolynomialHash(SeededSecrets(1, "k").draw(16))
    messages = [b"", b"\0", bytes(15), bytes(16), bytes(17), b"a", b"a\0"]
    assert len({hashed(message) for message in messages}) == len(messages)


def pair(tags: int = 20) -> tuple[Authenticator, Authenticator, KeyPool, KeyPool]:
    shared = SeededSecrets(3, "shared").draw(preshared_bits(tags) // 8)
    one, two = KeyPool(shared), KeyPool(shared)
    return Authenticator(one, "alice"), Authenticator(two, "bob"), one, two


@settings(deadline=None, max_examples=60)
@given(message=st.binary(min_size=1, max_size=100), bit=st.integers(0, 10**6))
def test_any_altered_bit_of_message_or_tag_is_found(message: bytes, bit: int) -> None:
    alice, bob, *_ = pair()
    sealed = bytearray(message + alice.tag(message))
    where = bit % (8 * len(sealed))
    sealed[where // 8] ^= 1 << where % 8
    with pytest.raises(ProtocolAbort, match="authentication failed"):
        bob.check(bytes(sealed[:-16]), bytes(sealed[-16:]))


def test_a_true_tag_passes_and_a_replayed_one_does_not() -> None:
    alice, bob, *_ = pair()
    tag = alice.tag(b"message")
    bob.check(b"message", tag)
    with pytest.raises(ProtocolAbort):
        bob.check(b"message", tag)


def test_a_reflected_tag_does_not_pass() -> None:
    alice, bob, *_ = pair()
    digest = alice.digest(b"transcript")
    forward = alice.tag_hashed(digest)
    bob.check_hashed(digest, 10, forward)
    with pytest.raises(ProtocolAbort):
        alice.check_hashed(digest, 10, forward)


def test_the_forgery_bound() -> None:
    """(L + 1) / 2^128 for L blocks, summed over the tags checked."""
    assert forgery_bound(0) == 2.0**-128
    assert forgery_bound(16) == 2.0**-127
    assert forgery_bound(17) == 3 * 2.0**-128
    alice, bob, *_ = pair()
    for message in (b"a" * 16, b"b" * 17):
        bob.check(message, alice.tag(message))
    assert bob.eps == 5 * 2.0**-128
    assert alice.eps == 0.0


def test_who_knows_the_hash_key_forges_negative_control() -> None:
    """Messages (a, b) with a H = b collide with zeros at H, and at no other point that is tried."""
    secrets = SeededSecrets(5, "forger")
    point, block = secrets.draw(16), secrets.draw(16)
    product = _multiply(int.from_bytes(block, "big"), int.from_bytes(point, "big"))
    forged = block + product.to_bytes(16, "big")
    assert PolynomialHash(point)(forged) == PolynomialHash(point)(bytes(32))
    for _ in range(50):
        other = PolynomialHash(secrets.draw(16))
        assert other(forged) != other(bytes(32))


def test_secrets_do_not_show() -> None:
    *_, pool, _ = pair()
    assert pool.hash_key.hex() not in repr(pool)
    assert repr(pool.hash_key) not in repr(pool)


def test_too_little_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="shared beforehand"):
        KeyPool(bytes(32))
    with pytest.raises(ConfigError, match="hash key"):
        PolynomialHash(bytes(15))
