"""A key management entity as a process: ``python entity.py FOLDER NAME PORT OTHERS``; it ends by a signal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from qflsec.protocols.keystore import KeyStore, Kme, KmeLimits, KmeServer, TlsFiles


def main(folder: Path, name: str, port: int, others: list[str]) -> None:
    limits = KmeLimits(key_size=256, min_key_size=256, max_key_size=256, max_key_per_request=8)
    kme = Kme(
        name=f"KME of {name}",
        store=KeyStore(folder / f"{name}.keys", capacity=200),
        local=frozenset({name}),
        remote=dict.fromkeys(others, "KME"),
        limits=limits,
    )
    own = TlsFiles(certificate=folder / "kme.crt", key=folder / "kme.key", authority=folder / "authority.pem")
    with KmeServer(kme, own, port=port):
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4].split(","))
