"""Sum alignment: on views made by hand, and on sums of the loop that masks do not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qflsec.attacks import Blocked, MembershipChallenge, MembershipClaim
from qflsec.attacks.membership.sum_alignment import SumAlignment
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import Model, build_model, per_sample_gradients
from qflsec.protocols.secagg import HeBfv, Masked
from qflsec.threat import Item, Records, View, honest_but_curious_server

MakeItem = Callable[..., Item]
MakeView = Callable[..., View]


def asked(n: int = 6) -> MembershipChallenge:
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.rand(n, 4, generator=generator)
    labels = torch.randint(0, 2, (n,), generator=generator)
    return MembershipChallenge(
        seed=0, attack="sum-alignment", candidates=Records(features=features, labels=labels)
    )


def test_scores_are_mean_cosines_with_the_descent_direction(
    vqc: Model, item: MakeItem, view: MakeView
) -> None:
    challenge = asked()
    candidates = challenge.candidates
    models = [torch.linspace(0, 1, 36), torch.linspace(1, 0, 36)]
    gradients = [per_sample_gradients(vqc, p, candidates.features, candidates.labels) for p in models]
    items = []
    for place, params in enumerate(models):
        items.append(item("model", params, round_index=place))
        items.append(
            item("aggregate", -0.1 * gradients[place][place], round_index=place, about=frozenset({0, 1}))
        )
    claim = SumAlignment()(view(*items, model=vqc), challenge)
    assert isinstance(claim, MembershipClaim)
    cosine = torch.nn.functional.cosine_similarity
    expected = sum(cosine(gradients[p], gradients[p][p][None], dim=-1) for p in range(2)) / 2
    assert torch.allclose(claim.scores, torch.as_tensor(expected).double(), atol=1e-5)


def test_single_updates_are_added_up(vqc: Model, item: MakeItem, view: MakeView) -> None:
    challenge = asked()
    parts = [torch.randn(36, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    model = item("model", torch.zeros(36))
    single = [item("update", part, about=frozenset({i})) for i, part in enumerate(parts)]
    whole = item("aggregate", torch.stack(parts).mean(dim=0), about=frozenset({0, 1, 2}))
    one, other = (SumAlignment()(view(model, *items, model=vqc), challenge) for items in (single, [whole]))
    assert isinstance(one, MembershipClaim)
    assert isinstance(other, MembershipClaim)
    assert torch.allclose(one.scores, other.scores, atol=1e-6)


def test_why_it_is_blocked(vqc: Model, item: MakeItem, view: MakeView) -> None:
    cases = {
        "no update, sum or step": view(item("model", torch.zeros(36)), model=vqc),
        "no model that": view(item("update", torch.ones(36)), model=vqc),
        "architecture": view(item("update", torch.ones(36)), model=None),
        "is sealed": view(item("update", b"x", form="ciphertext"), model=vqc),
    }
    for says, seen in cases.items():
        blocked = SumAlignment()(seen, asked())
        assert isinstance(blocked, Blocked)
        assert says in blocked.reason


def test_masks_leave_what_a_sum_says_of_membership() -> None:
    """Three seeds of the preset: advantage 0.41 from sums alone, with and without masks; none from ciphertexts."""
    pipeline = Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=20,
            nonmembers=40,
            auxiliary=60,
            test=100,
        ),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 8, "encoder": "reuploading"}),
        federation=FederationConfig(n_clients=10, rounds=10, learning_rate=0.05),
    )
    threat, attack = honest_but_curious_server(), SumAlignment()
    found: dict[str, list[float]] = {}
    for name, layers in (("none", ()), ("masked", (Masked(),)), ("he", (HeBfv(),))):
        for result in run_batch(
            pipeline, Stack(name=name, client=layers), [RunSpec(seed=s) for s in range(3)], secrets="seeded"
        ):
            challenge, truth = challenge_for(attack, result, seed=result.spec.seed, threat=threat)
            claim = attack(result.view(threat), challenge)
            if name == "he":
                assert isinstance(claim, Blocked)
            else:
                assert isinstance(claim, MembershipClaim)
                found.setdefault(name, []).append(float(score_claim(claim, truth).advantage))
    assert sum(found["none"]) / 3 > 0.25
    assert found["masked"] == pytest.approx(found["none"], abs=0.02)
