"""Compiled templates, kept between commands: to compile them takes as long as to fill them."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from qflsec.base.installation import cache_folder, installation_digest

__all__ = ["CompiledTemplates"]


class CompiledTemplates(BytecodeCache):
    """Keeps the code of templates in the user's cache.

    Code holds for one text of a template, which Jinja compares, and for one installation: its sources hold the
    environment's options, and another Jinja or Python compiles otherwise. It is code that is run, as Python's own
    caches are: what another user could have written is not read.
    """

    def __init__(self) -> None:
        self._digest = f"{installation_digest()}\n".encode()

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket, where what is kept holds."""
        with suppress(OSError), _path(bucket).open("rb") as file:  # there is none: it is compiled
            about = os.fstat(file.fileno())
            own = not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)
            if own and file.readline() == self._digest:
                bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Replace the file at once, so that nobody reads a half; where it cannot be written, every page is slower."""
        path = _path(bucket)
        part = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                part.chmod(0o600)
                file.write(self._digest)
                bucket.write_bytecode(file)
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink()


def _path(bucket: Bucket) -> Path:
    """One file for each template of each place where the package is installed."""
    return cache_folder() / "templates" / hashlib.sha256(bucket.key.encode()).hexdigest()[:32]
