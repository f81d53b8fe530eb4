"""Epsilons that forbid nothing, and deltas that give a unit away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.account import ledger
from qflsec.accounting.limits import is_vacuous, membership_ceiling
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.defenses.privacy import DpFedAvg, DpSgd, LocalDp
from qflsec.federation import Layer, Pipeline, Stack
from qflsec.protocols.qdp import DepolarizingNoise
from qflsec.protocols.secagg import Ddp

Context = Callable[..., LedgerContext]
Maker = Callable[..., Pipeline]


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0, 8.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.2])
def test_the_ceiling_is_attained_by_randomised_response(epsilon: float, delta: float) -> None:
    """A bit that is told as it is with probability delta, else by randomised response of epsilon."""
    truth = delta + (1 - delta) * math.exp(epsilon) / (1 + math.exp(epsilon))
    assert membership_ceiling(epsilon, delta) == pytest.approx(2 * truth - 1)


def test_where_an_epsilon_forbids_nothing() -> None:
    assert not is_vacuous(9.8)
    assert is_vacuous(10.0)
    assert is_vacuous(4000.0, 1e-5)
    assert is_vacuous(math.inf)
    assert is_vacuous(0.1, 0.99999)
    with pytest.raises(ConfigError, match="bad epsilon"):
        membership_ceiling(-1.0)


def sentences(rows: tuple[LedgerRow, ...]) -> list[str]:
    return [row.statement for row in rows if row.layer == "view" and row.guarantee == "not covered"]


@pytest.mark.parametrize(("noise", "vacuous"), [(0.05, True), (10.0, False)])
def test_a_gaussian_epsilon_in_the_thousands_is_marked_and_silences_nothing(
    ledger_context: Context, noise: float, vacuous: bool
) -> None:
    """Fifteen full steps with z = .05: epsilon 46,000 and more, an advantage of 1."""
    seen = ledger_context()
    rows = DpSgd(noise_multiplier=noise).ledger(seen)
    found = [row for row in rows if row.guarantee == "differential privacy"]
    assert found
    for row in found:
        assert row.vacuous is vacuous
        assert row.to_dict()["vacuous"] is vacuous
        assert (
            "Vacuous: it allows an attack an advantage of 1, and so forbids nothing." in row.stated
        ) is vacuous
    if vacuous:
        assert all((row.epsilon or 0) > 1000 for row in found)
    said = sentences(ledger(seen, rows))
    record = "no epsilon that forbids anything bounds what single updates tell of a single record"
    assert (record in said) is vacuous
    assert "no epsilon bounds what single updates tell of a client as a whole" in said


NOISY: list[tuple[Layer, int]] = [
    (DpSgd(delta=1 / 30), 30),
    (DepolarizingNoise(delta=1 / 30), 30),
    (DpFedAvg(delta=0.25), 4),
    (LocalDp(delta=0.25), 4),
    (Ddp(delta=0.25), 4),
]


@pytest.mark.parametrize(("layer", "units"), NOISY, ids=[layer.card.name for layer, _ in NOISY])
def test_a_delta_of_one_over_the_units_is_refused_unless_asked_for(
    make_pipeline: Maker, layer: Layer, units: int
) -> None:
    pipeline = make_pipeline(n_clients=4, members=30)
    with pytest.raises(IncompatibleStack, match=f"below 1/{units}"):
        Stack.from_layers("large", [layer]).check(pipeline)
    Stack.from_layers("asked for", [replace(layer, large_delta=True)]).check(pipeline)  # type: ignore[call-arg]
    Stack.from_layers("small", [replace(layer, delta=0.99 / units)]).check(pipeline)  # type: ignore[call-arg]
