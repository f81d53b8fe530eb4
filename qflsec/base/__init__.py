"""Cards, registry, errors, scores and randomness: what everything else stands on."""

from __future__ import annotations

from qflsec.base.cards import (
    Assumption,
    AttackCard,
    Card,
    CheckCard,
    DefenseCard,
    Family,
    Goal,
    Severity,
    Source,
)
from qflsec.base.errors import (
    BackendError,
    ConfigError,
    DataError,
    IncompatibleAttack,
    IncompatibleStack,
    LostRound,
    MissingExtra,
    ProtocolAbort,
    QflsecError,
    StoreError,
    UnknownName,
    UpdateError,
    blaming,
)
from qflsec.base.numbers import finite
from qflsec.base.randomness import OsSecrets, Secrets, SeededSecrets, numpy_stream, stream, stream_seed
from qflsec.base.registry import find, load_plugins, names, register
from qflsec.base.scores import Score

__all__ = [
    "Assumption",
    "AttackCard",
    "BackendError",
    "Card",
    "CheckCard",
    "ConfigError",
    "DataError",
    "DefenseCard",
    "Family",
    "Goal",
    "IncompatibleAttack",
    "IncompatibleStack",
    "LostRound",
    "MissingExtra",
    "OsSecrets",
    "ProtocolAbort",
    "QflsecError",
    "Score",
    "Secrets",
    "SeededSecrets",
    "Severity",
    "Source",
    "StoreError",
    "UnknownName",
    "UpdateError",
    "blaming",
    "find",
    "finite",
    "load_plugins",
    "names",
    "numpy_stream",
    "register",
    "stream",
    "stream_seed",
]
