"""What lies beside the code: keys, passwords, uploaded records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from qflsec.audit.check import Bench, Check
from qflsec.audit.outcome import Finding, Place
from qflsec.audit.parts import SourceCode
from qflsec.base import CheckCard, Source, register

__all__ = ["SecretsBesideTheCode"]

_HEAD = 4096
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PASSWORD = re.compile(rb"(?im)^\s*[A-Z0-9_]*(SECRET|TOKEN|PASSWORD|API_KEY|PRIVATE_KEY)[A-Z0-9_]*\s*=\s*\S+")


@register("check", "secrets-beside-the-code")
class SecretsBesideTheCode(Check):
    """Files that hold secrets in the pipeline's folder."""

    looks_at = SourceCode
    card = CheckCard(
        name="secrets-beside-the-code",
        idea="Find private keys, .env files with passwords and pickles among the files of the pipeline.",
        source=Source(
            paper="CWE-312, cleartext storage of sensitive information", year=2024, where="description"
        ),
        title="a secret lies beside the code",
        severity="error",
        proves="The file holds a private key or a password in the clear.",
        cannot=("Secrets of other forms, and those in the history of a repository, are not seen.",),
        consequence="Everybody who gets the code gets the key: servers and clients of this pipeline can be impersonated.",
        remedy="Take it out of the folder and of the history, and make a new one.",
    )

    def run(self, part: SourceCode, bench: Bench) -> Iterator[Finding]:
        """Every such file."""
        bench.measured["files"] = len(part.others)
        for name in part.others:
            try:
                with (part.folder / name).open("rb") as file:
                    head = file.read(_HEAD)
            except OSError:
                continue
            place = Place(file=name)
            if _PRIVATE_KEY.search(head):
                yield Finding(what=f"{name} holds a private key", place=place)
            elif Path(name).name.startswith(".env") and _PASSWORD.search(head):
                yield Finding(what=f"{name} holds a password or a token", place=place)
            elif Path(name).suffix in {".pkl", ".pickle"}:
                yield Finding(what=f"{name} is a pickle: who loads it runs it", place=place, severity="note")
