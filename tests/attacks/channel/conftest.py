from __future__ import annotations

from collections.abc import Callable

import pytest

from qflsec.attacks.channel import ChannelAttack
from qflsec.base import SeededSecrets
from qflsec.protocols.bb84 import QuantumConfig, QuantumPhase, run_quantum

Run = Callable[..., QuantumPhase]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the quantum phase with seeded secrets."""

    def run_seeded(config: QuantumConfig, attack: ChannelAttack | None = None, seed: int = 1) -> QuantumPhase:
        return run_quantum(
            config,
            seed=seed,
            alice_secrets=SeededSecrets(seed, "alice"),
            bob_secrets=SeededSecrets(seed, "bob"),
            attack=attack,
        )

    return run_seeded
