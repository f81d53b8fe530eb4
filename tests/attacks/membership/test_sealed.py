"""What secrecy predicts: nothing is left of an attack on what is sealed, and mechanisms that are broken are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.accounting.predictions import mixed, predicted
from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Blocked, Inference
from qflsec.attacks.membership import GradientRegression, LossThreshold, SumAlignment, UpdateAlignment
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model
from qflsec.protocols.links import AesGcmLink, OneTimePadLink, link_end
from qflsec.protocols.secagg import Masked
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.masks import layer as masking
from qflsec.threat import (
    Item,
    ThreatModel,
    View,
    client,
    honest_but_curious_server,
    wire_eavesdropper,
)

SERVER, WIRE = honest_but_curious_server(), wire_eavesdropper()
SEEDS = 6
PIPELINE = Pipeline(
    data=DataSpec(
        name="breast-cancer", n_features=4, balanced=True, members=12, nonmembers=12, auxiliary=40, test=4
    ),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "encoder": "reuploading", "scale": 6.0}),
    federation=FederationConfig(n_clients=6, rounds=6, learning_rate=0.3),
)


def runs(*layers: Any, seeds: int = SEEDS) -> list[RunResult]:
    stack = Stack.from_layers("tried", list(layers))
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(seeds)]
    return run_batch(PIPELINE, stack, specs, secrets="seeded")


def words_of(item: Item) -> np.ndarray[Any, Any]:
    """The best guess at what a sealed item says, as whole numbers: words of the ring, or an encoding without a key."""
    if isinstance(item.value, np.ndarray):
        return item.value.astype(np.uint64)
    assert isinstance(item.value, bytes)
    body = item.value[8:-16]  # the number of the message before, the tag behind
    if body[0] == 0:  # as likely as not an encoding of single precision
        return (np.frombuffer(body[5:], dtype="<f4") * 2.0**20).astype(np.int64).astype(np.uint64)
    return np.frombuffer(body[5:], dtype="<i4").astype(np.int64).astype(np.uint64)


def opened(view: View) -> View:
    """The view with every sealed item read as numbers; where some are too large for an update, the others alone."""
    model = view.final_model()
    assert model is not None
    items: list[Item] = []
    for item in view.items:
        if item.form == "plain" or item.kind not in {"update", "model"}:
            items.append(item)
            continue
        value = torch.as_tensor(words_of(item)[: len(model)].astype(np.int64) * 2.0**-20)
        likely = value.abs() < 1e4
        if bool(likely.any()):
            value = value * likely
        items.append(replace(item, form="plain", value=value.float()))
    return replace(view, items=tuple(items))


def advantages(
    attack: Inference, made: list[RunResult], threat: ThreatModel, changed: Callable[[View], View]
) -> list[float]:
    found = []
    for run in made:
        challenge, truth = challenge_for(attack, run, seed=run.spec.seed, threat=threat)
        claim = attack(changed(run.view(threat)), challenge)
        assert not isinstance(claim, Blocked)
        found.append(score_claim(claim, truth).advantage)
    return found


def above(found: list[float], ceiling: float) -> bool:
    """Whether the mean is above the ceiling at 5 % over the six cases together."""
    return mean_over_seeds(found, within=(-1, 1), confidence=1 - 2 * 0.05 / 6).low > ceiling


def test_nothing_of_an_attack_is_left_where_what_it_reads_is_sealed() -> None:
    aes, pad = (runs(layer, seeds=1)[0].ledger(WIRE) for layer in (AesGcmLink(), OneTimePadLink()))
    for attack in (UpdateAlignment, SumAlignment, GradientRegression):
        ideal, near = predicted(aes, attack.reads), predicted(pad, attack.reads)
        assert ideal is not None
        assert near is not None
        assert (ideal.advantage, ideal.unit, ideal.adjacency) == (0.0, "messages", "sealed")
        assert near.advantage == pytest.approx(2 * near.stated), (
            "either of two records, each within the distance"
        )
        assert 0 < near.stated < 1e-6
    assert predicted(aes, LossThreshold.reads) is None, "the final model is published"
    masked = runs(Masked(), seeds=1)[0]
    proof = predicted(masked.ledger(SERVER), UpdateAlignment.reads)
    assert proof is not None
    assert (proof.layer, proof.unit, proof.tpr(0.01)) == ("masked", "single updates", 0.01)
    assert predicted(masked.ledger(SERVER), SumAlignment.reads) is None, "masks leave the sum"
    assert mixed(masked.ledger(SERVER)) == {"layer": "masked", "clients": 6}
    assert mixed(aes) == {}


def test_a_client_in_the_coalition_holds_models() -> None:
    """Its own updates start from them, so that even an attack on single updates is no guess."""
    run = runs(Masked(), AesGcmLink(), seeds=1)[0]
    for party, reads in ((SERVER, UpdateAlignment.reads), (WIRE, SumAlignment.reads)):
        assert predicted(run.ledger(party), reads) is not None
        joined = replace(party, corrupted=party.corrupted | {client(3)})
        assert predicted(run.ledger(joined), reads) is None
    assert mixed(run.ledger(replace(SERVER, corrupted=SERVER.corrupted | {client(3)}))) == {
        "layer": "masked",
        "clients": 5,
    }


@pytest.mark.parametrize("attack", [UpdateAlignment(), SumAlignment(), GradientRegression()])
def test_with_noise_in_the_place_of_what_it_reads_it_guesses(attack: Inference) -> None:
    made = runs()
    generator = torch.Generator().manual_seed(0)

    def noisy(view: View) -> View:
        return replace(
            view,
            items=tuple(
                replace(item, value=torch.randn(item.vector.shape, generator=generator))
                if item.kind in {"update", "aggregate", "step"} and item.form == "plain"
                else item
                for item in view.items
            ),
        )

    plain = advantages(attack, made, SERVER, lambda view: view)
    assert sum(plain) > 0.1 * len(plain), "with the updates it is no guess"
    assert not above(advantages(attack, made, SERVER, noisy), 0.0)


@pytest.mark.parametrize("masked_part", [1.0, 0.5, 0.0])
def test_masks_on_a_part_of_the_parameters_are_caught(
    masked_part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = masking.add_expanded

    def partly(words: Words, masks: Any) -> Words:
        first = round(masked_part * len(words))
        return np.concatenate([honest(words, masks)[:first], words[first:]])

    monkeypatch.setattr(masking, "add_expanded", partly)
    made = runs(Masked())
    proof = predicted(made[0].ledger(SERVER), UpdateAlignment.reads)
    assert proof is not None
    found = advantages(UpdateAlignment(), made, SERVER, opened)
    assert above(found, proof.advantage) == (masked_part < 1)


@pytest.mark.parametrize("broken", [False, True])
def test_a_link_that_seals_nothing_is_caught(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __init__(self, key: bytes) -> None:
            pass

        def encrypt(self, number: bytes, payload: bytes, header: bytes) -> bytes:
            return payload + bytes(16)

        def decrypt(self, number: bytes, sealed: bytes, header: bytes) -> bytes:
            return sealed[:-16]

    if broken:
        monkeypatch.setattr(link_end, "AESGCM", Nothing)
    made = runs(AesGcmLink())
    proof = predicted(made[0].ledger(WIRE), UpdateAlignment.reads)
    assert proof is not None
    assert above(advantages(UpdateAlignment(), made, WIRE, opened), proof.advantage) == broken
