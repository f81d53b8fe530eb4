"""Keys, stores and certificates for the tests of key management."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import os
import secrets
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qflsec.protocols.keystore import (
    Etsi014Client,
    KeyLink,
    KeyStore,
    Kme,
    KmeLimits,
    KmeServer,
    QkdKey,
    TlsFiles,
)

ALICE, BOB, CAROL = "client-0", "server", "client-1"
FORTH = KeyLink(master=ALICE, slave=BOB)
BACK = KeyLink(master=BOB, slave=ALICE)
LIMITS = KmeLimits(key_size=256, min_key_size=256, max_key_size=256, max_key_per_request=8)


MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where the system has such a place: stores wait for the disk at every key."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


def made_keys(n: int, bits: int = 256, *, seeded: bool = False) -> list[QkdKey]:
    return [
        QkdKey(
            key_id=uuid.uuid4(),
            material=secrets.token_bytes(bits // 8),
            simulated_channel=True,
            seeded=seeded,
        )
        for _ in range(n)
    ]


@pytest.fixture(scope="session")
def make_keys() -> Callable[..., list[QkdKey]]:
    return made_keys


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

    def issue(self, name: str, *, server: bool = False, named: bool = True) -> TlsFiles:
        """A certificate for an application or, with the loopback address, for a server; with no subject if not named."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if named else [])
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
        # Python 3.13 verifies strictly: certificates name the keys of their holders and of who signed them
        signer = self._key.public_key()
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False
        )
        if authority:
            signs = dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(
                x509.KeyUsage(**signs, key_cert_sign=True, crl_sign=True), critical=True
            )
        else:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self._key, SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Site:
    """Both sides of a link: an entity with its store, and the certificates of its applications."""

    def __init__(self, directory: Path, authority: Any) -> None:
        self.stores = {
            "A": KeyStore(directory / "A.keys", allow_seeded=True, capacity=200),
            "B": KeyStore(directory / "B.keys", allow_seeded=True, capacity=200),
        }
        a = Kme(
            name="KME-A",
            store=self.stores["A"],
            local=frozenset({ALICE}),
            remote={BOB: "KME-B"},
            limits=LIMITS,
        )
        b = Kme(
            name="KME-B",
            store=self.stores["B"],
            local=frozenset({BOB, CAROL}),
            remote={ALICE: "KME-A"},
            limits=LIMITS,
        )
        self.a = KmeServer(a, authority.issue("KME-A", server=True))
        self.b = KmeServer(b, authority.issue("KME-B", server=True))
        self.tls = {name: authority.issue(name) for name in (ALICE, BOB, CAROL, "stranger")}
        self.tls["nameless"] = authority.issue("nameless", named=False)

    def at(self, side: str, name: str) -> Etsi014Client:
        return Etsi014Client("127.0.0.1", {"A": self.a, "B": self.b}[side].port, self.tls[name])

    def fill(self, keys: list[QkdKey]) -> None:
        self.stores["A"].add(keys, link=FORTH, role="master")
        self.stores["B"].add(keys, link=FORTH, role="slave")

    def open(self, side: str, name: str) -> http.client.HTTPSConnection:
        context = self.tls[name].context(server=False)
        port = {"A": self.a, "B": self.b}[side].port
        return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)

    def raw(self, side: str, name: str, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        with closing(self.open(side, name)) as connection:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, json.loads(answer.read())


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    made = Site(tmp_path, authority)
    with made.a, made.b:
        yield made


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for a whole table of requests."""
    directory = tmp_path_factory.mktemp("site")
    made = Site(directory, Authority(directory))
    with made.a, made.b:
        yield made
