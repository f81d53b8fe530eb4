"""Clusters that clients choose: groups that contradict each other, who is told apart, and who joins the wrong one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

from qflsec.attacks import Blocked, ClientClaim
from qflsec.attacks.poisoning import WrongCluster
from qflsec.attacks.property import ChosenCluster
from qflsec.base import IncompatibleAttack, IncompatibleStack
from qflsec.data import DataSpec, PartitionSpec
from qflsec.defenses.robust import Median
from qflsec.federation import (
    Adversary,
    Clusters,
    FederationConfig,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    Star,
    Topology,
    run_batch,
)
from qflsec.federation.round.lanes import LaneData, prepare_lane
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import corrupted_clients, wire_eavesdropper

NONE = Stack(name="none")
TWO = Clusters(edges=2)
ODD = (1, 3, 5, 7, 9)
SEEDS = (0, 1, 2)


def pipeline(topology: Topology = TWO, kind: str = "iid", **federation: object) -> Pipeline:
    values = {"n_clients": 10, "rounds": 20, "local_steps": 5, "learning_rate": 0.5, **federation}
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=4,
            balanced=True,
            members=200,
            nonmembers=0,
            auxiliary=60,
            test=100,
        ),
        partition=PartitionSpec(kind=kind),
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(**values),  # type: ignore[arg-type]
        topology=topology,
    )


def contrary(lane: LaneData) -> LaneData:
    """The same run, in which every second client has its classes the other way round."""
    labels = lane.labels.clone()
    labels[list(ODD)] = 1 - labels[list(ODD)]
    return replace(lane, labels=labels)


def choices(run: RunResult, round_index: int) -> dict[int, int]:
    """What the network hears of who joins which cluster."""
    items = run.view(wire_eavesdropper()).readable("control", round_index=round_index)
    return {min(item.named): item.receiver.index for item in items}


def own_accuracy(run: RunResult, node: Callable[[int], int]) -> float:
    """Of the model that each client reads, on test records labelled as its own are."""
    features, labels = run.dataset.take(run.dataset.test_idx)
    right = []
    for index in range(10):
        answers = run.pipeline.model(run.models[node(index)], features).argmax(dim=-1)
        wanted = 1 - labels if index in ODD else labels
        right.append(float((answers == wanted).double().mean()))
    return sum(right) / len(right)


@cache
def runs(topology: Topology = TWO, adversary: Adversary | None = None) -> tuple[RunResult, ...]:
    whole = pipeline(topology)
    threat = None if adversary is None else corrupted_clients(n=1)
    specs = [RunSpec(seed=seed, adversary=adversary, threat=threat, evaluate="last") for seed in SEEDS]
    lanes = [contrary(prepare_lane(whole, seed)) for seed in SEEDS]
    found = tuple(run_batch(whole, NONE, specs, lanes=lanes))
    assert all(run.outcome == "completed" for run in found)
    return found


def test_groups_that_contradict_each_other_part_and_one_model_serves_neither() -> None:
    """Ghosh et al., NeurIPS 2020, in shape: with one model half of the answers are wrong, with two nine of ten right."""
    for run in runs(Star()):
        assert own_accuracy(run, lambda _: 0) == pytest.approx(0.5)
    found = runs()
    assert sum(own_accuracy(run, choices(run, 19).__getitem__) for run in found) / len(found) > 0.85
    for run in found:
        last = choices(run, 19)
        groups = [{i for i in range(10) if last[i] == node} for node in range(2)]
        assert sorted(map(sorted, groups)) == [[0, 2, 4, 6, 8], list(ODD)], (
            "the choice tells the groups apart"
        )


def test_a_client_that_joins_the_wrong_cluster_spoils_it() -> None:
    """One of six there, and not one of ten: the cluster loses, the other does not."""
    spoiled, spared = [], []
    for run in runs(TWO, WrongCluster(boost=10.0)):
        last = choices(run, 19)
        features, labels = run.dataset.take(run.dataset.test_idx)
        for index, found in ((3, spoiled), (2, spared)):
            answers = run.pipeline.model(run.models[last[index]], features).argmax(dim=-1)
            wanted = 1 - labels if index in ODD else labels
            found.append(float((answers == wanted).double().mean()))
        assert last[0] == last[3] != last[2], "client 0 is one of the others"
    assert sum(spoiled) / len(spoiled) < 0.7
    assert sum(spared) / len(spared) > 0.8


def test_a_client_trains_from_the_model_of_least_loss() -> None:
    """Against the losses worked out here from what went over the network."""
    (run, *_) = runs()
    view, model = run.view(wire_eavesdropper()), run.pipeline.model
    for index in (0, 1, 7):
        models = {item.sender.index: item.vector for item in view.readable("model", round_index=index)}
        for who, chosen in choices(run, index).items():
            rows = run.clients[who]
            labels = run.dataset.labels[rows]
            labels = 1 - labels if who in ODD else labels
            losses = [
                float(model.loss.per_sample(model(models[n], run.dataset.features[rows]), labels).mean())
                for n in range(2)
            ]
            assert chosen == losses.index(min(losses))
            (update,) = [i for i in view.readable("update", round_index=index) if i.named == {who}]
            base = view.base_of(update)
            assert base is not None
            assert torch.equal(base, models[chosen])


def test_one_cluster_is_the_mean_of_a_star() -> None:
    small = {"rounds": 3}
    (star,) = run_batch(pipeline(Star(), **small), NONE, [RunSpec(seed=4)])
    (one,) = run_batch(pipeline(Clusters(edges=1), **small), NONE, [RunSpec(seed=4)])
    assert torch.equal(star.params, one.params)
    assert star.accuracy == pytest.approx(one.accuracy)


def test_runs_side_by_side_and_absent_clients() -> None:
    whole = pipeline(rounds=3, participation=0.4)
    specs = [
        RunSpec(seed=1),
        RunSpec(seed=1, adversary=WrongCluster(), threat=corrupted_clients(n=1)),
        RunSpec(seed=2),
    ]
    together = run_batch(whole, NONE, specs)
    for spec, beside in zip(specs, together, strict=True):
        (alone,) = run_batch(whole, NONE, [spec])
        assert torch.equal(alone.models, beside.models)
        assert all(len(choices(beside, index)) == 4 for index in range(3))
    # a mean of the clients of a cluster, from its model: the rule acts in each
    (median,) = run_batch(pipeline(rounds=2), Stack.from_layers("median", [Median()]), [RunSpec(seed=1)])
    assert median.outcome == "completed"


@dataclass(frozen=True)
class Nowhere(Adversary):
    """Chooses a cluster that there is not."""

    def chooses(self, losses: torch.Tensor) -> int:
        return len(losses)

    def identity(self) -> dict[str, object]:
        return {"name": "nowhere"}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(IncompatibleStack, match="clusters that clients choose"):
        Stack(name="masked", client=(Masked(),)).check(pipeline())
    with pytest.raises(IncompatibleAttack, match="no choice"):
        WrongCluster().check(pipeline(Star()), corrupted_clients(n=1))
    spec = RunSpec(seed=0, adversary=Nowhere(), threat=corrupted_clients(n=1))
    (run,) = run_batch(pipeline(rounds=1), NONE, [spec])
    assert run.outcome.startswith("failed: an attack chose a cluster that there is not")


def test_the_choice_alone_tells_what_a_client_holds() -> None:
    threat = wire_eavesdropper(knows=("architecture", "auxiliary"))
    attack = ChosenCluster(simulated=64)
    found = []
    for seed in range(2):
        (run,) = run_batch(pipeline(kind="label-skew", rounds=6), NONE, [RunSpec(seed=seed)])
        challenge, truth = challenge_for(attack, run, seed=seed, threat=threat)
        claim = attack(run.view(threat), challenge)
        assert isinstance(claim, ClientClaim)
        found.append(score_claim(claim, truth).advantage)
    assert sum(found) / 2 >= 0.5
    (star,) = run_batch(pipeline(Star(), kind="label-skew", rounds=2), NONE, [RunSpec(seed=0)])
    challenge, _ = challenge_for(attack, star, seed=0, threat=threat)
    assert isinstance(attack(star.view(threat), challenge), Blocked)
