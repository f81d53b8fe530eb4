"""Homes: a party's folder with its signature key, everybody's public keys, and the states of its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nacl.bindings import crypto_sign_seed_keypair

from qflsec.base import ConfigError, OsSecrets, SeededSecrets
from qflsec.federation import Identity
from qflsec.threat import SERVER, Party, client

__all__ = ["identity_of_home", "make_homes", "seeded_identities"]

_KEY, _DIRECTORY = "identity.key", "directory.json"
_SEED_BYTES = 32
_FIX = "make homes with make_homes(folder, n_clients), and give each party its own"


def make_homes(folder: Path, n_clients: int) -> dict[Party, Path]:
    """Fresh signature keys for a server and its clients, each in a folder of its own, with a common directory.

    Args:
        folder: Where the folders are made: ``server``, ``client-0`` and so on.
        n_clients: The number of clients.

    Raises:
        ConfigError: There are such folders already: whoever holds their keys would not be known any more.
    """
    homes = {SERVER: folder / "server", **{client(i): folder / f"client-{i}" for i in range(n_clients)}}
    for home in homes.values():
        if (home / _KEY).exists():
            raise ConfigError(f"there is a key already: {home / _KEY}", fix="use an empty folder")
    pairs = {party: os.urandom(_SEED_BYTES) for party in homes}
    directory = {str(party): crypto_sign_seed_keypair(seed)[0].hex() for party, seed in pairs.items()}
    for party, home in homes.items():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        (home / _DIRECTORY).write_text(json.dumps(directory, indent=1), encoding="utf-8")
        with os.fdopen(os.open(home / _KEY, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
            file.write(pairs[party])
    return homes


def identity_of_home(home: Path, party: Party, others: Sequence[Party]) -> Identity:
    """The identity that a party's folder holds.

    Args:
        home: The folder.
        party: Whose it must be.
        others: Whom the directory must name, and nobody else.

    Raises:
        ConfigError: A file is missing or is not what it should be.
    """
    try:
        seed = (home / _KEY).read_bytes()
        named: Mapping[str, str] = json.loads((home / _DIRECTORY).read_text(encoding="utf-8"))
        directory = {_party(name): bytes.fromhex(key) for name, key in named.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"the home of {party} cannot be read: {home}", got=error, fix=_FIX) from None
    if set(directory) != {party, *others}:
        raise ConfigError(
            f"the directory in the home of {party} names other parties than the plan",
            got=f"{len(directory)} parties",
            expected=f"{1 + len(others)}",
            fix=_FIX,
        )
    public, private = crypto_sign_seed_keypair(seed) if len(seed) == _SEED_BYTES else (b"", b"")
    if directory[party] != public:
        raise ConfigError(f"the key in {home} is not that of {party} in the directory", fix=_FIX)
    return Identity(party=party, directory=directory, _key=private)


def seeded_identities(seed: int, parties: Sequence[Party]) -> dict[Party, Identity]:
    """Identities that everybody can make again: for the lab, where keys protect nothing.

    Args:
        seed: The seed of the experiment.
        parties: The parties.
    """
    sources = {party: SeededSecrets(seed, "flower", str(party)) for party in parties}
    return Identity.of_all(tuple(parties), sources)


def secrets_of(seed: int | None, party: Party) -> OsSecrets | SeededSecrets:
    """A party's own source of secrets.

    Args:
        seed: The seed of the experiment; None for the operating system.
        party: The party.
    """
    return OsSecrets() if seed is None else SeededSecrets(seed, "flower secrets", str(party))


def _party(name: str) -> Party:
    role, _, index = name.partition(":")
    if role == "client" and index.isascii() and index.isdecimal() and len(index) < 6:
        return client(int(index))
    if name == str(SERVER):
        return SERVER
    raise ValueError(f"{name!r} is no party")
