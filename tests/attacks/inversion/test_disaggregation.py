"""Disaggregation: exact on sums of updates that follow its model, and more than a sum gives in the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from qflsec.attacks import InversionChallenge
from qflsec.attacks.inversion.disaggregation import Disaggregation
from qflsec.attacks.inversion.dlg import DeepLeakage
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Schedule, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Model, build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import Item, View, honest_but_curious_server

MakeItem = Callable[..., Item]
MakeView = Callable[..., View]
N, SIZE = 5, 36


def challenge(target: int = 0, **training: object) -> InversionChallenge:
    return InversionChallenge(
        seed=0,
        attack="disaggregation",
        target=target,
        n_records=1,
        n_features=4,
        feature_range=(0.0, 3.14),
        training=FederationConfig(learning_rate=0.1, **training),  # type: ignore[arg-type]
    )


def sums(
    item: MakeItem, members: list[set[int]], *, slope: float, seed: int = 0
) -> tuple[list[Item], torch.Tensor, torch.Tensor]:
    """Means of weighted updates ``base + slope * round * drift``, with the models of the rounds."""
    generator = torch.Generator().manual_seed(seed)
    base, drift = (torch.randn(N, SIZE, generator=generator, dtype=torch.float64) for _ in range(2))
    counts = torch.tensor([2.0, 3.0, 5.0, 1.0, 4.0], dtype=torch.float64)
    items = []
    for place, who in enumerate(members):
        chosen = sorted(who)
        weights = counts[chosen, None]
        updates = base[chosen] + slope * place * drift[chosen]
        mean = (weights * updates).sum(dim=0) / weights.sum()
        items.append(item("model", torch.full((SIZE,), float(place)), round_index=place))
        items.append(
            item("aggregate", mean, round_index=place, about=frozenset(who), weight=float(weights.sum()))
        )
    return items, base, drift


def parallel(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0)) > 1 - 1e-9


def test_two_rounds_that_differ_in_one_client_give_its_update(
    vqc: Model, item: MakeItem, view: MakeView
) -> None:
    items, base, _ = sums(item, [{0, 1, 2, 3}, {1, 2, 3}], slope=0.0)
    seen = Disaggregation(degree=0).observations(view(*items, model=vqc), challenge())[0]
    assert parallel(seen.update, base[0])
    assert seen.about == {0}
    other = Disaggregation(degree=0).observations(view(*items, model=vqc), challenge(target=1))[0]
    assert other.about == {1, 2, 3}, "nothing tells these three apart"


MANY = [{0, 1, 2}, {1, 3, 4}, {0, 2, 4}, {0, 1, 3}, {2, 3, 4}, {0, 3, 4}, {1, 2, 4}, {0, 1, 4}, {0, 2, 3}, {1, 2, 3}, {0, 1, 2}, {0, 3, 4}]  # fmt: skip


@pytest.mark.parametrize("target", range(N))
def test_changing_clients_give_every_update(vqc: Model, item: MakeItem, view: MakeView, target: int) -> None:
    items, base, drift = sums(item, MANY, slope=0.3)
    seen = Disaggregation().observations(view(*items, model=vqc), challenge(target))[0]
    assert seen.about == {target}
    assert parallel(seen.update, base[target] + 0.3 * seen.round * drift[target])
    assert torch.equal(seen.params, torch.full((SIZE,), float(seen.round)))
    constant = Disaggregation(degree=0).observations(view(*items, model=vqc), challenge(target))[0]
    assert not parallel(constant.update, base[target] + 0.3 * constant.round * drift[target])


GROUPS = [
    ({0, 1, 2}, {3, 4}),
    ({0, 3}, {1, 2, 4}),
    ({0, 4, 2}, {1, 3}),
    ({0, 1}, {2, 3, 4}),
    ({1, 2, 3}, {0, 4}),
]


@pytest.mark.parametrize("target", range(N))
def test_all_sums_of_a_round_count_where_groups_change(
    vqc: Model, item: MakeItem, view: MakeView, target: int
) -> None:
    """One sum of each round alone would not do: every round gives as many equations as it has groups."""
    flat = [who for groups in GROUPS[:4] for who in groups]
    items, base, _ = sums(item, flat, slope=0.0)
    paired = [replace(i, round=i.round // 2, base=i.base and str(i.round // 2)) for i in items]
    paired = [i for place, i in enumerate(paired) if i.kind == "aggregate" or place % 4 == 0]
    paired = [replace(i, version=str(i.round)) if i.kind == "model" else i for i in paired]
    seen = Disaggregation(degree=0).observations(view(*paired, model=vqc), challenge(target))[0]
    assert seen.about == {target}
    assert parallel(seen.update, base[target])


def test_groups_that_stay_give_a_group_only(vqc: Model, item: MakeItem, view: MakeView) -> None:
    items, _, _ = sums(item, [who for _ in range(6) for who in GROUPS[0]], slope=0.0)
    seen = Disaggregation(degree=0).observations(view(*items, model=vqc), challenge())[0]
    assert seen.about == {0, 1, 2}


def test_a_schedule_is_no_change_of_the_updates(vqc: Model, item: MakeItem, view: MakeView) -> None:
    """Sums of rounds with other learning rates are brought to one: what is left is the round's dependence."""
    how = {"rounds": len(MANY), "schedule": Schedule(kind="step", step_size=2, gamma=0.4)}
    rate = FederationConfig(learning_rate=0.1, **how).rate  # type: ignore[arg-type]
    items, base, _ = sums(item, MANY, slope=0.0)
    scaled = [
        replace(i, value=i.vector * rate(i.round) / rate(0)) if i.kind == "aggregate" else i for i in items
    ]
    attack = Disaggregation(degree=0)
    seen = attack.observations(view(*scaled, model=vqc), challenge(**how))[0]
    assert parallel(seen.update, base[0])
    assert not parallel(attack.observations(view(*scaled, model=vqc), challenge())[0].update, base[0])


def test_everybody_in_every_round_gives_a_sum_only(vqc: Model, item: MakeItem, view: MakeView) -> None:
    items, _, _ = sums(item, [set(range(N))] * 6, slope=0.3)
    seen = Disaggregation().observations(view(*items, model=vqc), challenge())[0]
    assert seen.about == set(range(N))


def test_a_wrong_degree_is_refused() -> None:
    with pytest.raises(ConfigError, match="'degree'"):
        Disaggregation(degree=4)


def test_sums_of_changing_clients_are_no_protection_in_the_loop() -> None:
    """The pipeline of the preset: masks leave sums, of which the plain attack makes little and this one nearly all."""
    pipeline = Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=20,
            nonmembers=0,
            auxiliary=100,
            test=150,
        ),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(n_clients=10, rounds=40, participation=0.5, learning_rate=0.02),
    )
    stack = Stack(name="masked", client=(Masked(),))
    (result,) = run_batch(pipeline, stack, [RunSpec(seed=0)], secrets="seeded")
    threat = honest_but_curious_server()

    def advantage(attack: Any) -> float:
        asked, truth = challenge_for(attack, result, seed=0, threat=threat)
        return float(score_claim(attack(result.view(threat), asked), truth).advantage)

    assert advantage(Disaggregation()) > 0.9  # measured 0.999
    assert advantage(DeepLeakage()) < 0.5  # measured 0.005
