"""One client in particular: what a mean of k updates tells of it, where the others' records are noise.

A trial is a federation of its own: every client draws its share of class 1 uniformly, and ten records by it. The question is
always the same client's majority class. A probe that had the exact mean of the shares would rank trials by that.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qflsec.attacks import ClientClaim
from qflsec.attacks.challenges import LabelSkewChallenge
from qflsec.attacks.property import LabelSkew
from qflsec.data import DataSpec, PartitionSpec, as_long, load
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, Tree, run_batch
from qflsec.federation.round.lanes import LaneData, lane_of
from qflsec.models import EXACT, build_model
from qflsec.threat import honest_but_curious_server

SERVER = honest_but_curious_server(knows=("architecture", "auxiliary"))
RECORDS = 10


def pipeline(k: int) -> Pipeline:
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=200,
            nonmembers=0,
            auxiliary=120,
            test=10,
        ),
        partition=PartitionSpec(kind="files"),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "n_features": 4, "n_classes": 2}),
        federation=FederationConfig(n_clients=k, rounds=1, learning_rate=0.1),
        topology=Tree(edges=1),  # its server sees the mean over all clients
    )


def drawn(which: Pipeline, seed: int) -> tuple[LaneData, torch.Tensor]:
    """Clients with shares of their own, and what these came to."""
    k, data = which.federation.n_clients, load(which.data, seed)
    generator = torch.Generator().manual_seed(1000 * k + seed)
    has = torch.rand(k, RECORDS, generator=generator) < torch.rand(k, 1, generator=generator)
    pools = [data.member_idx[data.labels[data.member_idx] == label] for label in (0, 1)]
    rows = [pool[torch.randint(len(pool), has.shape, generator=generator)] for pool in pools]
    kept = torch.cat([torch.where(has, rows[1], rows[0]).flatten(), data.auxiliary_idx])
    members, none = np.arange(k * RECORDS), np.arange(0)
    dataset = replace(
        data,
        features=data.features[kept],
        labels=data.labels[kept],
        member_idx=as_long(members),
        nonmember_idx=as_long(none),
        auxiliary_idx=as_long(np.arange(len(members), len(kept))),
        test_idx=as_long(none),
        canary_idx=as_long(none),
        source_rows=as_long(np.arange(len(kept))),
        clients=as_long(np.repeat(np.arange(k), RECORDS)),
        client_names=tuple(map(str, range(k))),
    )
    return lane_of(which, dataset, seed), has.double().mean(dim=1)


def trials(k: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each trial whether the named client has more of class 1, what the probe says, and the exact mean of the shares."""
    which = pipeline(k)
    made = [drawn(which, seed) for seed in range(count)]
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(count)]
    runs = run_batch(which, Stack(name="none"), specs, lanes=[lane for lane, _ in made])
    said = []
    for seed, run in enumerate(runs):
        challenge = LabelSkewChallenge(
            seed=seed,
            attack="label-skew",
            clients=tuple(range(k)),
            counts=(RECORDS,) * k,
            training=which.federation,
            execution=EXACT,
            label=1,
        )
        claim = LabelSkew(simulated=64)(run.view(SERVER), challenge)
        assert isinstance(claim, ClientClaim)
        said.append(float(claim.scores[0]))
    shares = torch.stack([share for _, share in made])
    open_ = shares[:, 0] != 0.5
    return (shares[:, 0] > 0.5)[open_], torch.tensor(said)[open_], shares.mean(dim=1)[open_]


def advantage(holds: torch.Tensor, scores: torch.Tensor) -> float:
    gaps = scores[holds][:, None] - scores[~holds][None]
    return float((gaps > 0).double().mean() - (gaps < 0).double().mean())


def interval(holds: torch.Tensor, scores: torch.Tensor) -> tuple[float, float]:
    """95 %, by drawing trials again."""
    generator = torch.Generator().manual_seed(0)
    again = [torch.randint(len(holds), (len(holds),), generator=generator) for _ in range(500)]
    found = torch.tensor([advantage(holds[rows], scores[rows]) for rows in again])
    low, high = found.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def test_others_are_noise_and_do_not_hide_a_client_for_good() -> None:
    """Forty trials: alone it is read off, among five it is told now and then, as from the exact mean."""
    alone, mixed = trials(1, 40), trials(5, 40)
    assert advantage(*alone[:2]) > 0.95
    told, exact = advantage(*mixed[:2]), advantage(mixed[0], mixed[2])
    assert abs(told - exact) < 0.2
    assert told < 0.8


@pytest.mark.slow
def test_the_curve_of_one_named_client() -> None:
    """Four hundred trials for each k, beside what exact means tell.

    For normal shares the latter is 4 / pi arcsin(1 / sqrt(2 k)): three signs of normal variables, of the two clients' shares and
    of the difference of the means, with correlations 0 and 1 / sqrt(2 k).
    """
    found = {}
    for k in (1, 2, 4, 5, 10, 20):
        holds, said, means = trials(k, 400)
        found[k], exact = advantage(holds, said), advantage(holds, means)
        low, high = interval(holds, said)
        law = 4 / math.pi * math.asin((2 * k) ** -0.5)
        print(  # noqa: T201
            f"k = {k}: {found[k]:.2f} [{low:.2f}, {high:.2f}], exact means {exact:.2f}, normal shares {law:.2f}"
        )
        assert abs(found[k] - exact) < 0.1
        assert abs(exact - law) < 0.15
    assert found[1] > 0.98
    assert found[20] < 0.3 < found[2]
