"""Challenges: what an attack on confidentiality is asked, and the truth that its scorer keeps."""

from __future__ import annotations

import torch

from qflsec.attacks import Challenge, Inference, InversionChallenge, MembershipChallenge
from qflsec.base import ConfigError, stream
from qflsec.federation import RunResult
from qflsec.lab.scoring.manipulation import n_correct
from qflsec.lab.scoring.trial import InversionTruth, MembershipTruth, Truth
from qflsec.threat import NOBODY, Records, ThreatModel

__all__ = ["challenge_for"]


def challenge_for(
    attack: Inference, result: RunResult, *, seed: int, threat: ThreatModel = NOBODY
) -> tuple[Challenge, Truth]:
    """The challenge of an attack on a run, and its truth.

    It depends on the run's data and on (attack, seed), never on the stack: equal views are asked equal
    questions. Corrupted clients hold their own records, so these are no question.

    Args:
        attack: The attack.
        result: The run.
        seed: The seed of the run.
        threat: The threat model; its corrupted clients are left out.

    Raises:
        ConfigError: No challenge of the attack's kind can be made from the run.
    """
    if issubclass(attack.challenge_type, MembershipChallenge):
        return _membership(attack, result, seed, threat)
    if issubclass(attack.challenge_type, InversionChallenge):
        return _inversion(attack, result, seed, threat)
    raise ConfigError(
        f"the lab has no challenge for attack {attack.card.name!r}",
        got=attack.challenge_type.__name__,
        expected="a membership or an inversion challenge",
    )


def _membership(
    attack: Inference, result: RunResult, seed: int, threat: ThreatModel
) -> tuple[MembershipChallenge, MembershipTruth]:
    """As many members as non-members, in random order."""
    data = result.dataset
    honest = [rows for client, rows in enumerate(result.clients) if client not in threat.clients]
    members, nonmembers = torch.cat([*honest, data.member_idx[:0]]), data.nonmember_idx
    size = min(len(members), len(nonmembers))
    if size == 0:
        raise ConfigError(
            "a membership game needs members and non-members",
            got=f"{len(members)} and {len(nonmembers)}",
            fix="raise 'nonmembers' of the pipeline's data",
        )
    generator = stream(seed, "challenge", "membership")
    chosen = torch.cat(
        [rows[torch.randperm(len(rows), generator=generator)[:size]] for rows in (members, nonmembers)]
    )
    order = torch.randperm(2 * size, generator=generator)
    features, labels = data.take(chosen[order])
    train, test = result.records("member"), result.records("test")
    truth = MembershipTruth(
        member=order < size,
        train_correct=n_correct(result, result.params, train),
        n_train=len(train.labels),
        test_correct=n_correct(result, result.params, test),
        n_test=len(test.labels),
    )
    challenge = MembershipChallenge(
        seed=seed, attack=attack.card.name, candidates=Records(features=features, labels=labels)
    )
    return challenge, truth


def _inversion(
    attack: Inference, result: RunResult, seed: int, threat: ThreatModel
) -> tuple[InversionChallenge, InversionTruth]:
    """All records of the first honest client."""
    config, data = result.pipeline.federation, result.dataset
    if config.optimizer != "sgd" or config.batch_size is not None:
        raise ConfigError(
            "an inversion challenge needs clients that take full batches by plain gradient descent",
            got=f"optimizer={config.optimizer!r}, batch_size={config.batch_size}",
            expected="optimizer = 'sgd' and no batch_size",
            fix="run inversion attacks on a pipeline of their own",
        )
    honest = [client for client in range(config.n_clients) if client not in threat.clients]
    held = [client for client in honest if len(result.clients[client])]
    if not held:
        raise ConfigError("an inversion challenge needs an honest client with a record", got=str(threat))
    target = held[0]
    records = result.client_records(target)
    challenge = InversionChallenge(
        seed=seed,
        attack=attack.card.name,
        target=target,
        n_records=len(records.labels),
        n_features=data.n_features,
        feature_range=data.spec.feature_range,
        local_steps=config.local_steps,
        learning_rate=config.learning_rate,
    )
    truth = InversionTruth(
        records=records,
        angle_features=result.pipeline.model.angle_features,
        feature_range=data.spec.feature_range,
        auxiliary=result.records("auxiliary"),
    )
    return challenge, truth
