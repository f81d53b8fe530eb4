"""Inconsistent models: dead circuits exist, masks do not help against them, and signed hashes do."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

import qflsec.attacks.inversion.inconsistent_models as module
from qflsec.attacks import Blocked, InversionClaim
from qflsec.attacks.inversion.inconsistent_models import InconsistentModels, dead_model
from qflsec.base import ConfigError
from qflsec.data import DataSpec, load
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model, per_sample_gradients
from qflsec.protocols.secagg import HeBfv, Masked, SecAgg
from qflsec.threat import honest_but_curious_server, malicious_server

SPEC = DataSpec(
    name="breast-cancer", n_features=4, balanced=True, members=8, nonmembers=0, auxiliary=40, test=40
)


@cache  # the search for a dead model is made once for each model and stream
def pipeline(rounds: int = 1) -> Pipeline:
    return Pipeline(
        data=SPEC,
        model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        federation=FederationConfig(n_clients=4, rounds=rounds, learning_rate=0.1),
    )


def attacked(*layers: Any, attack: InconsistentModels | None = None, rounds: int = 1) -> RunResult:
    spec = RunSpec(seed=1, adversary=attack or InconsistentModels(), threat=malicious_server())
    return run_batch(pipeline(rounds), Stack(name="s", client=layers), [spec], secrets="seeded")[0]


def claim_of(result: RunResult, attack: InconsistentModels | None = None) -> Any:
    attack = attack or InconsistentModels()
    asked, truth = challenge_for(attack, result, seed=1, threat=malicious_server())
    claim = attack(result.view(malicious_server()), asked)
    return score_claim(claim, truth).advantage if isinstance(claim, InversionClaim) else claim


def test_a_circuit_without_gradients_exists_and_stays_dead_on_other_records() -> None:
    """Found on 16 records; on records that it was not found on, the gradients are 2,000 times smaller than usual."""
    model, data = pipeline().model, load(SPEC, 1)
    dead = dead_model(
        model, data.features[data.auxiliary_idx][:16], generator=torch.Generator().manual_seed(2)
    )
    alive = 2 * torch.pi * torch.rand(model.n_params, generator=torch.Generator().manual_seed(3))
    records, labels = data.features[data.test_idx], data.labels[data.test_idx]
    norms = [per_sample_gradients(model, p, records, labels).norm(dim=-1) for p in (dead, alive)]
    assert float(norms[0].max()) < 5e-4 * float(norms[1].mean())


def test_a_search_that_was_made_before_gives_the_same_model_and_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, records, searches = pipeline().model, torch.linspace(0, 3, 8).view(2, 4), []
    original = module._search
    monkeypatch.setattr(module, "_search", lambda *asked: searches.append(asked) or original(*asked))
    found = {}
    for seed, count in ((7, 1), (7, 1), (8, 2)):
        generator = torch.Generator().manual_seed(seed)
        dead = dead_model(model, records, generator=generator, steps=2, starts=2)
        after = generator.get_state()
        assert len(searches) == count
        assert torch.equal(found.setdefault(seed, dead), dead)
        fresh = torch.Generator().manual_seed(seed)
        assert torch.equal(original(searches[-1][0], fresh), dead)
        assert torch.equal(fresh.get_state(), after)
        dead.zero_()  # whoever changes a copy changes nobody else's
        found[seed] = original(searches[-1][0], torch.Generator().manual_seed(seed))
    assert not torch.equal(found[7], found[8])


def test_masks_hide_the_victim_among_clients_that_contributed_nothing() -> None:
    result = attacked(Masked())
    assert result.outcome == "completed"
    assert claim_of(result) > 0.99  # measured 1.000


def test_clients_that_compare_hashes_stop_by_name() -> None:
    result = attacked(SecAgg())
    assert result.outcome.startswith("aborted: client:0 and client:1 were told different things")
    assert "hash of the model" in result.outcome
    view = result.view(malicious_server())
    assert view.readable("update", "aggregate", "step") == (), "nothing was sent that could be read"


def test_encrypted_sums_help_until_one_of_them_is_published() -> None:
    """The server cannot read the sum that it prepared, unless that is the last one and the model is published."""
    blocked = claim_of(attacked(HeBfv(), rounds=2))
    assert isinstance(blocked, Blocked)
    assert claim_of(attacked(HeBfv(), rounds=1)) > 0.99


def test_another_victim_than_the_challenge_asks_for() -> None:
    attack = InconsistentModels(victim=2)
    blocked = claim_of(attacked(Masked(), attack=attack), attack)
    assert isinstance(blocked, Blocked)
    assert "against client 2" in blocked.reason


def test_only_the_chosen_round_is_touched() -> None:
    result = attacked(attack=InconsistentModels(round=1, search_steps=2, search_starts=1), rounds=2)
    sent = [item.vector for item in result.view(malicious_server()).readable("model", round_index=0)]
    assert all(torch.equal(sent[0], model) for model in sent)


def test_an_honest_server_cannot_do_it() -> None:
    from qflsec.threat import corrupted_clients

    with pytest.raises(ConfigError, match="acts through the server"):
        InconsistentModels().corrupts(corrupted_clients(n=1))
    InconsistentModels().corrupts(malicious_server())
    with pytest.raises(ConfigError):
        RunSpec(seed=0, adversary=InconsistentModels(), threat=honest_but_curious_server())
    with pytest.raises(ConfigError, match="'search_steps'"):
        InconsistentModels(search_steps=0)
