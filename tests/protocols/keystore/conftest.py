"""Keys, stores and certificates for the tests of key management."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import secrets
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qflsec.protocols.keystore import KeyLink, KeyStore, QkdKey, TlsFiles

ALICE, BOB, CAROL = "client-0", "server", "client-1"
FORTH = KeyLink(master=ALICE, slave=BOB)
BACK = KeyLink(master=BOB, slave=ALICE)


MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where the system has such a place: stores wait for the disk at every key."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture
def make_keys() -> Callable[..., list[QkdKey]]:
    def make(n: int, bits: int = 256, *, seeded: bool = False) -> list[QkdKey]:
        return [
            QkdKey(
                key_id=uuid.uuid4(),
                material=secrets.token_bytes(bits // 8),
                simulated_channel=True,
                seeded=seeded,
            )
            for _ in range(n)
        ]

    return make


@pytest.fixture
def pair(tmp_path: Path) -> tuple[KeyStore, KeyStore]:
    """The stores of both sides of a link."""
    return KeyStore(tmp_path / "alice.keys"), KeyStore(tmp_path / "bob.keys")


class Authority:
    """A certificate authority for one test."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = directory / f"{name}.pem"
        certificate = self._signed(self._name, self._key.public_key(), authority=True, server=False)
        self.path.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *, server: bool = False) -> TlsFiles:
        """A certificate for an application or, with the loopback address, for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), authority=False, server=server)
        files = TlsFiles(
            certificate=self._directory / f"{name}.crt",
            key=self._directory / f"{name}.key",
            authority=self.path,
        )
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )
        return files

    def _signed(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, authority: bool, server: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
        )
        if not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self._key, SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)
