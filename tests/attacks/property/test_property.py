"""What the probes find in single updates and in sums, and where they say that they cannot know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from qflsec.attacks import Blocked, ClientChallenge, ClientClaim, Inference
from qflsec.attacks.property import (
    DeviceFingerprint,
    HeldBlocks,
    LabelSkew,
    MetricSkew,
    Participation,
    ReportedLoss,
)
from qflsec.base import ConfigError, IncompatibleAttack, find, names
from qflsec.circuits import NoiseModel
from qflsec.data import DataSpec, Holdings, PartitionSpec, client_holdings, load
from qflsec.defenses.compression import GradientPruning
from qflsec.defenses.weighting import Softmin
from qflsec.federation import (
    Clusters,
    FederationConfig,
    Layer,
    NaturalGradient,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.federation.round.lanes import LaneData, lane_of
from qflsec.lab.challenges import challenge_for, check_challenge
from qflsec.lab.scoring import TrialScore, score_claim
from qflsec.models import Execution, Model, build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    Records,
    ThreatModel,
    View,
    corrupted_clients,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

SERVER = honest_but_curious_server(knows=("architecture", "auxiliary"))
NOISY = Execution(noise=NoiseModel(kind="local-depolarizing", p=0.05, where="every-gate"))
SEEDS = (0, 1)


def pipeline(kind: str, noisy: tuple[int, ...], participation: float) -> Pipeline:
    """Eight clients of three records each."""
    return Pipeline(
        data=DataSpec(
            name="breast-cancer",
            n_features=2,
            balanced=True,
            members=24,
            nonmembers=24,
            auxiliary=40,
            test=8,
        ),
        partition=PartitionSpec(kind=kind),
        model=build_model({"name": "vqc", "n_qubits": 2, "layers": 4}),
        federation=FederationConfig(n_clients=8, rounds=5, learning_rate=0.1, participation=participation),
        client_executions=dict.fromkeys(noisy, NOISY),
    )


@cache
def trained(
    *,
    masked: bool = False,
    kind: str = "iid",
    noisy: tuple[int, ...] = (),
    participation: float = 1.0,
    asked: bool = False,
    pruned: bool = False,
    clustered: bool = False,
    uploads: bool = False,
    shuffled: bool = False,
    blocks: bool = False,
) -> tuple[RunResult, ...]:
    masks: list[Layer] = [Masked()] if masked else []
    prunes: list[Layer] = [GradientPruning(keep=0.25)] if pruned else []
    asks: list[Layer] = [Softmin(beta=0.0)] if asked else []
    whole = pipeline(kind, noisy, participation)
    if uploads:
        natural = NaturalGradient(solved_by="server")
        whole = replace(whole, federation=replace(whole.federation, natural_gradient=natural))
    if blocks:
        data = replace(whole.data, blocks=(15, 15), held_blocks=1)
        whole = replace(whole, data=data)
    return tuple(
        run_batch(
            replace(whole, topology=Clusters(edges=2)) if clustered else whole,
            Stack.from_layers("s", [*masks, *prunes, *asks]),
            [RunSpec(seed=seed, evaluate="never") for seed in SEEDS],
            secrets="seeded",
            lanes=[shuffled_lane(whole, seed) for seed in SEEDS] if shuffled else None,
        )
    )


def shuffled_lane(whole: Pipeline, seed: int) -> LaneData:
    """Labels that say nothing of the features, dealt anew in each split before clients get their records."""
    dataset, generator = load(whole.data, seed), torch.Generator().manual_seed(seed)
    labels = dataset.labels.clone()
    for rows in (dataset.member_idx, dataset.auxiliary_idx):
        labels[rows] = labels[rows[torch.randperm(len(rows), generator=generator)]]
    return lane_of(whole, replace(dataset, labels=labels), seed)


def judged(attack: Inference, run: RunResult, threat: ThreatModel = SERVER) -> TrialScore:
    challenge, truth = challenge_for(attack, run, seed=run.spec.seed, threat=threat)
    claim = attack(run.view(threat), challenge)
    assert isinstance(claim, ClientClaim)
    return score_claim(claim, truth)


def test_single_updates_say_what_a_client_holds_and_a_sum_of_all_does_not() -> None:
    attack = LabelSkew(simulated=64)
    alone = [judged(attack, run) for run in trained(kind="label-skew")]
    assert [score.advantage for score in alone] == [1.0, 1.0]
    assert all(score.metrics["anonymity_set"].value == 1 for score in alone)
    summed = [judged(attack, run) for run in trained(kind="label-skew", masked=True)]
    assert [score.advantage for score in summed] == [0.0, 0.0]
    assert all(score.metrics["anonymity_set"].value == 8 for score in summed)
    assert all(score.metrics["sums_advantage"].value == 0 for score in summed)


def test_one_reported_number_says_much_of_what_a_client_holds() -> None:
    """The loss alone, without looking at an update; where nobody reports one, there is nothing to read."""
    attack = ReportedLoss(simulated=64)
    found = [judged(attack, run) for run in trained(kind="label-skew", asked=True)]
    assert min(score.advantage for score in found) >= 0.5
    (plain, *_) = trained(kind="label-skew")
    challenge, _ = challenge_for(attack, plain, seed=0, threat=SERVER)
    blocked = attack(plain.view(SERVER), challenge)
    assert isinstance(blocked, Blocked)
    assert "no reported loss" in blocked.reason


def test_a_metric_says_what_a_client_holds_where_classes_differ_in_their_features() -> None:
    """No label is in it: where labels are dealt at random it says nothing, and the update still says all."""
    attack = MetricSkew(simulated=64)
    runs = trained(kind="label-skew", uploads=True)
    assert min(judged(attack, run).advantage for run in runs) >= 0.9
    control = trained(kind="label-skew", uploads=True, shuffled=True)
    assert sum(judged(attack, run).advantage for run in control) / len(SEEDS) < 0.5
    assert min(judged(LabelSkew(simulated=64), run).advantage for run in control) >= 0.9
    masked = trained(kind="label-skew", uploads=True, masked=True)
    assert [judged(attack, run).advantage for run in masked] == [0.0, 0.0]
    (plain, *_) = trained(kind="label-skew")
    challenge, _ = challenge_for(attack, plain, seed=0, threat=SERVER)
    blocked = attack(plain.view(SERVER), challenge)
    assert isinstance(blocked, Blocked)
    assert "no uploaded metric" in blocked.reason


def test_sums_of_clients_that_come_and_go_say_it_too() -> None:
    """Five sums over four of eight known clients: what they leave is told beside it, and no probe has more."""
    runs = trained(kind="label-skew", masked=True, participation=0.5)
    found = [judged(LabelSkew(simulated=64), run) for run in runs]
    assert all(score.metrics["anonymity_set"].value <= 4 for score in found)
    for score in found:
        assert 0.5 <= score.advantage <= score.metrics["sums_advantage"].value + 1e-9


def test_a_noisy_device_leaves_its_mark_on_single_updates_alone() -> None:
    attack = DeviceFingerprint(simulated=64)
    alone = [judged(attack, run).advantage for run in trained(noisy=(1, 2, 5))]
    assert min(alone) >= 0.8
    assert [judged(attack, run).advantage for run in trained(noisy=(1, 2, 5), masked=True)] == [0.0, 0.0]


def test_a_missing_block_of_features_shows_in_single_updates_alone() -> None:
    attack, runs = HeldBlocks(), trained(kind="label-skew", blocks=True)
    assert min(judged(attack, run).advantage for run in runs) >= 0.8
    hidden = trained(kind="label-skew", blocks=True, masked=True)
    assert [judged(attack, run).advantage for run in hidden] == [0.0, 0.0]
    for run in runs:  # where nothing stands in for a block, simulated clients teach nothing
        asked, truth = challenge_for(attack, run, seed=run.spec.seed, threat=SERVER)
        whole = replace(asked, kinds=tuple(torch.ones_like(kind) for kind in asked.kinds))
        claim = attack(run.view(SERVER), whole)
        assert isinstance(claim, ClientClaim)
        assert score_claim(claim, truth).advantage < 0.5


def test_it_is_asked_of_somebody_where_most_clients_lack_the_block() -> None:
    whole, asked = pipeline("iid", (), 1.0), []
    whole = replace(
        whole,
        data=replace(whole.data, blocks=(15, 15), held_blocks=1),
        federation=replace(whole.federation, n_clients=5, rounds=1),
    )
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(4)]
    for run in run_batch(
        whole, Stack(name="none"), specs
    ):  # three of five are of the kind in question in some
        challenge, truth = challenge_for(HeldBlocks(), run, seed=run.spec.seed, threat=SERVER)
        held = run.holdings
        assert held is not None
        assert truth.holds.tolist() == [challenge.asked[kind] for kind in held.clients]
        asked.append(int(truth.holds.sum()))
    assert set(asked) == {2, 3}


@pytest.mark.parametrize("preprocessing", ["auxiliary", "fixed-range"])
def test_holdings_say_what_records_show(preprocessing: str) -> None:
    spec = DataSpec(
        name="breast-cancer",
        n_features=6,
        blocks=(10, 10, 10),
        held_blocks=2,
        preprocessing=preprocessing,  # type: ignore[arg-type]
        reduction="pca" if preprocessing == "auxiliary" else "first",
        members=24,
        nonmembers=0,
        auxiliary=30,
        test=8,
    )
    dataset = load(spec, 0)
    rows = [dataset.member_idx[dataset.holdings[dataset.member_idx] == kind] for kind in (2, 0, 1)]
    held = client_holdings(dataset, rows)
    assert held is not None
    assert held.clients == (2, 0, 1)
    for kind, own in zip(held.clients, rows, strict=True):
        stands_in = (dataset.features[own] == held.fill).all(dim=0)
        near = torch.isclose(dataset.features[own], held.fill, atol=1e-5).all(dim=0)
        assert torch.equal(near, ~held.of(kind)) or torch.equal(stands_in, ~held.of(kind))
        assert [held.lacks(kind, block) for block in range(3)] == [not held.of(kind)[2 * b] for b in range(3)]
    assert client_holdings(load(replace(spec, held_blocks=3), 0), rows) is None


def test_direction_and_length_say_all_of_an_update() -> None:
    updates = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features = DeviceFingerprint().features(updates)
    assert torch.allclose(features[:, :-1] * features[:, -1:].exp(), updates)
    assert bool(torch.isfinite(DeviceFingerprint().features(torch.zeros(7))).all())


def test_who_took_part_is_read_off_the_steps_of_the_model() -> None:
    """Two passive clients hear no roster, but full batches make every step a sum of updates that they can compute."""
    curious = replace(corrupted_clients(n=2, active=False), knows=("architecture",))
    for run in trained(participation=0.75):
        challenge, truth = challenge_for(Participation(), run, seed=run.spec.seed, threat=curious)
        claim = Participation()(run.view(curious), challenge)
        assert isinstance(claim, ClientClaim)
        took = truth.holds.reshape(5, 6)
        scores = claim.scores.reshape(5, 6)
        read = [index for index in range(5) if scores[index].unique().numel() > 1]
        assert read
        for index in read:
            assert torch.equal(scores[index] > float(scores.max()) / 2, took[index])


def test_a_server_that_hears_the_clients_need_not_compute_who_took_part() -> None:
    assert [judged(Participation(), run).advantage for run in trained(participation=0.5)] == [1.0, 1.0]


@dataclass(frozen=True, eq=False)
class Swapped:
    """A run whose clients have each other's records, devices and rounds; its views stay."""

    run: RunResult

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def client_records(self, index: int) -> Records:
        return self.run.client_records(self.run.training.n_clients - 1 - index)

    @property
    def executions(self) -> tuple[Execution, ...]:
        return self.run.executions[::-1]

    @property
    def holdings(self) -> Holdings | None:
        held = self.run.holdings
        return held and replace(held, clients=tuple(1 - kind for kind in held.clients))

    @property
    def participants(self) -> dict[int, frozenset[int]]:
        everybody = frozenset(range(self.run.training.n_clients))
        return {index: everybody - took for index, took in self.run.participants.items()}


ATTACKS = {
    "label-skew": {"kind": "label-skew"},
    "reported-loss": {"kind": "label-skew", "asked": True},
    "metric-skew": {"kind": "label-skew", "uploads": True},
    "kept-entries": {"kind": "label-skew", "pruned": True},
    "chosen-cluster": {"kind": "label-skew", "clustered": True},
    "device-fingerprint": {"noisy": (1, 2, 5)},
    "held-blocks": {"kind": "label-skew", "blocks": True},
}
THREATS = {"chosen-cluster": wire_eavesdropper(knows=("architecture", "auxiliary"))}
"""Who hears what an attack needs, where that is not the server."""


def probes() -> list[str]:
    """Every property attack of the package."""
    return [
        name for name in names("attack") if getattr(find("attack", name).card, "family", "") == "property"
    ]


@pytest.mark.parametrize("name", probes())
def test_no_score_depends_on_the_truth(name: str) -> None:
    """The question of the other run holds the contrary; of participation, whose records are whose is granted."""
    run = trained(**ATTACKS.get(name, {"participation": 0.5}))[0]
    attack: Inference = find("attack", name)()
    threat = THREATS.get(name, SERVER)
    asked, truth = challenge_for(attack, run, seed=0, threat=threat)
    again, other = challenge_for(attack, Swapped(run), seed=0, threat=threat)
    if name == "participation":
        again = replace(again, records=asked.records)
    if name == "held-blocks":  # numbers of records are public
        again = replace(again, counts=asked.counts)
    assert not torch.equal(truth.holds, other.holds)
    first, second = (attack(run.view(threat), question) for question in (asked, again))
    assert torch.equal(first.scores, second.scores)


@pytest.mark.parametrize("name", probes())
def test_without_a_view_there_is_no_claim(name: str, view: Callable[..., View], vqc: Model) -> None:
    run = trained(**ATTACKS.get(name, {"participation": 0.5}))[0]
    attack: Inference = find("attack", name)()
    challenge, _ = challenge_for(attack, run, seed=0, threat=SERVER)
    assert isinstance(challenge, ClientChallenge)
    assert isinstance(attack(view(model=vqc), challenge), Blocked)
    assert isinstance(attack(run.view(public_final_model()), challenge), Blocked)


def test_a_probe_without_records_of_its_own_says_so() -> None:
    run = trained(kind="label-skew")[0]
    challenge, _ = challenge_for(LabelSkew(), run, seed=0, threat=SERVER)
    poor = LabelSkew()(run.view(replace(SERVER, knows=("architecture",))), challenge)
    assert isinstance(poor, Blocked)
    assert "no auxiliary records" in poor.reason
    one_sided = replace(challenge, label=2)
    blocked = LabelSkew()(run.view(SERVER), one_sided)
    assert isinstance(blocked, Blocked)
    assert "class 2" in blocked.reason


def test_questions_without_an_answer_are_refused_before_anything_runs() -> None:
    plain = pipeline("iid", (), 1.0)
    for attack, word in (
        (Participation(), "all clients take part"),
        (DeviceFingerprint(), "execute the model alike"),
        (HeldBlocks(), "every block"),
    ):
        with pytest.raises(IncompatibleAttack, match=word):
            check_challenge(attack, plain, SERVER)
    check_challenge(LabelSkew(), plain, SERVER)
    for bad in ({"simulated": 4}, {"rounds": 0}):
        with pytest.raises(ConfigError):
            LabelSkew(**bad)
