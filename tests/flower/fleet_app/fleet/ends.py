"""A party's end of its quantum links, which writes down the names of the keys that it got."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from qflsec.protocols.keystore import Etsi014Client, Etsi014Provider, QkdKey, TlsFiles
from qflsec.threat import SERVER, Party, client


class Noted(Etsi014Provider):
    """Lines of ``drawn`` and ``fetched`` in a folder."""

    def __init__(self, party: Party, folder: Path, port: int) -> None:
        name = "server" if party == SERVER else f"client-{party.index}"
        tls = TlsFiles(
            certificate=folder / f"{name}.crt", key=folder / f"{name}.key", authority=folder / "authority.pem"
        )
        super().__init__(Etsi014Client("127.0.0.1", port, tls), party)
        self._folder = folder

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        return self._note("drawn", super().draw(peer, n_bits))

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        return self._note("fetched", super().fetch(peer, key_ids))

    def _note(self, what: str, keys: tuple[QkdKey, ...]) -> tuple[QkdKey, ...]:
        with (self._folder / what).open("a") as file:
            file.writelines(f"{key.key_id}\n" for key in keys)
        return keys


def end(config: Mapping[str, Any], index: int | None) -> Noted | None:
    """The end of a client, or of the server; None where the run has no quantum links."""
    if not config["keys"]:
        return None
    folder = Path(config["keys"])
    ports = json.loads((folder / "ports.json").read_text())
    party = SERVER if index is None else client(index)
    return Noted(party, folder, ports["server" if index is None else f"client-{index}"])
