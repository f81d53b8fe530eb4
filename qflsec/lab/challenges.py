"""Challenges: what an attack on confidentiality is asked, and the truth that its scorer keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.attacks import (
    Challenge,
    ClientChallenge,
    CohortChallenge,
    EvasionChallenge,
    Inference,
    InversionChallenge,
    MembershipChallenge,
)
from qflsec.attacks.evasion import Evasion, projected
from qflsec.attacks.trainer import Trainer
from qflsec.base import IncompatibleAttack, stream
from qflsec.federation import Pipeline, RunResult
from qflsec.lab.client_challenges import check_client_challenge, client_challenge
from qflsec.lab.scoring.manipulation import n_correct
from qflsec.lab.scoring.trial import EvasionTruth, InversionTruth, MembershipTruth, Truth
from qflsec.lab.subject import Subject
from qflsec.threat import NOBODY, Records, ThreatModel

__all__ = ["challenge_for", "check_challenge", "draw_candidates"]


def check_challenge(attack: Inference, pipeline: Pipeline, threat: ThreatModel) -> None:
    """Refuse a pipeline from whose runs no challenge of the attack's kind can be made, before anything runs.

    Args:
        attack: The attack.
        pipeline: What is attacked.
        threat: The threat model; its corrupted clients are left out of every challenge.

    Raises:
        IncompatibleAttack: None can be made.
    """
    if len(threat.clients) == pipeline.federation.n_clients:
        raise IncompatibleAttack(
            "all clients are corrupted, so that nobody is left to attack",
            got=f"threat model {threat.name!r}",
            fix="corrupt fewer clients",
        )
    if issubclass(attack.challenge_type, MembershipChallenge):
        _check_sizes(pipeline.data.members, pipeline.data.nonmembers)
    elif isinstance(attack, Evasion):
        _check_test(pipeline.data.test)
    elif issubclass(attack.challenge_type, ClientChallenge):
        check_client_challenge(attack.challenge_type, pipeline)
    elif not issubclass(attack.challenge_type, InversionChallenge | CohortChallenge):
        raise _no_challenge(attack)


def challenge_for(
    attack: Inference,
    subject: Subject,
    *,
    seed: int,
    threat: ThreatModel = NOBODY,
    trainer: Trainer | None = None,
) -> tuple[Challenge, Truth]:
    """The challenge of an attack on a subject, and its truth.

    It depends on the subject's data and on (attack, seed), never on the stack: equal views are asked equal
    questions. Corrupted clients hold their own records, so these are no question.

    Args:
        attack: The attack.
        subject: What is attacked.
        seed: The seed of the run.
        threat: The threat model; its corrupted clients are left out.
        trainer: Trains the subject's pipeline on other records, for attacks with shadow models; None where
            nobody can.

    Raises:
        IncompatibleAttack: No challenge of the attack's kind can be made from the subject.
    """
    if issubclass(attack.challenge_type, MembershipChallenge):
        return _membership(attack, subject, seed, threat, trainer)
    if issubclass(attack.challenge_type, InversionChallenge):
        return _inversion(attack, subject, seed, threat)
    if issubclass(attack.challenge_type, CohortChallenge):
        return _cohort(attack, subject, seed, threat)
    if issubclass(attack.challenge_type, ClientChallenge):
        return client_challenge(attack, subject, seed=seed, threat=threat, trainer=trainer)
    if isinstance(attack, Evasion):
        return _evasion(attack, subject, seed)
    raise _no_challenge(attack)


def _no_challenge(attack: Inference) -> IncompatibleAttack:
    return IncompatibleAttack(
        f"the lab has no challenge for attack {attack.card.name!r}",
        got=attack.challenge_type.__name__,
        expected="a challenge about records, their members or clients",
    )


def _check_sizes(members: int, nonmembers: int) -> None:
    if min(members, nonmembers) == 0:
        raise IncompatibleAttack(
            "a membership game needs members and non-members",
            got=f"{members} and {nonmembers}",
            fix="raise 'nonmembers' of the pipeline's data",
        )


def _membership(
    attack: Inference, subject: Subject, seed: int, threat: ThreatModel, trainer: Trainer | None
) -> tuple[MembershipChallenge, MembershipTruth]:
    held = [subject.client_records(client) for client in _honest(subject, threat)]
    candidates, member = draw_candidates(
        held, subject.records("nonmember"), seed, canaries=subject.records("canary")
    )
    train, test = subject.records("member"), subject.records("test")
    truth = MembershipTruth(
        member=member,
        train_correct=n_correct(subject, train),
        n_train=len(train.labels),
        test_correct=n_correct(subject, test),
        n_test=len(test.labels),
    )
    challenge = MembershipChallenge(
        seed=seed,
        attack=attack.card.name,
        candidates=candidates,
        n_members=len(train.labels),
        trainer=trainer,
    )
    return challenge, truth


def draw_candidates(
    held: Sequence[Records], nonmembers: Records, seed: int, *, canaries: Records
) -> tuple[Records, torch.Tensor]:
    """As many members as non-members, in random order, and which of them are members.

    Where an auditor has placed canaries, they alone are in question.

    Args:
        held: The records of each honest client.
        nonmembers: Records that nobody trained on.
        seed: The seed of the run.
        canaries: All canaries, members and others; none where nobody placed any.

    Raises:
        IncompatibleAttack: There are no members, or no non-members.
    """
    pools = Records.joined([*held, _none_of(nonmembers)]), nonmembers
    if len(canaries.labels):
        pools = _those_in(pools[0], canaries), _those_in(pools[1], canaries)
    sizes = [len(pool.labels) for pool in pools]
    _check_sizes(*sizes)
    size = min(sizes)
    generator = stream(seed, "challenge", "membership")
    chosen = Records.joined(
        [pool.at(torch.randperm(len(pool.labels), generator=generator)[:size]) for pool in pools]
    )
    order = torch.randperm(2 * size, generator=generator)
    return chosen.at(order), order < size


def _inversion(
    attack: Inference, subject: Subject, seed: int, threat: ThreatModel
) -> tuple[InversionChallenge, InversionTruth]:
    """All records of the first honest client."""
    config = subject.training
    held = [client for client in _honest(subject, threat) if len(subject.client_records(client).labels)]
    if not held:
        raise IncompatibleAttack(
            "an inversion challenge needs an honest client with a record", got=str(threat)
        )
    target = held[0]
    records = subject.client_records(target)
    challenge = InversionChallenge(
        seed=seed,
        attack=attack.card.name,
        target=target,
        n_records=len(records.labels),
        n_features=records.features.shape[1],
        feature_range=subject.feature_range,
        training=config,
    )
    return challenge, _inversion_truth(subject, records)


def _cohort(
    attack: Inference, subject: Subject, seed: int, threat: ThreatModel
) -> tuple[CohortChallenge, InversionTruth]:
    """All records of all honest clients."""
    held = {client: subject.client_records(client) for client in _honest(subject, threat)}
    held = {client: records for client, records in held.items() if len(records.labels)}
    if not held:
        raise IncompatibleAttack("a cohort challenge needs an honest client with a record", got=str(threat))
    records = Records.joined(list(held.values()))
    challenge = CohortChallenge(
        seed=seed,
        attack=attack.card.name,
        clients=tuple(held),
        counts=tuple(len(one.labels) for one in held.values()),
        n_features=records.features.shape[1],
        feature_range=subject.feature_range,
        training=subject.training,
    )
    return challenge, _inversion_truth(subject, records)


def _inversion_truth(subject: Subject, records: Records) -> InversionTruth:
    return InversionTruth(
        records=records,
        angle_features=subject.angle_features,
        feature_range=subject.feature_range,
        auxiliary=subject.records("auxiliary"),
    )


def _check_test(n_test: int) -> None:
    if not n_test:
        raise IncompatibleAttack(
            "an evasion challenge needs records that nobody trained on",
            got="no test records",
            fix="raise 'test' of the pipeline's data",
        )


def _evasion(attack: Evasion, subject: Subject, seed: int) -> tuple[EvasionChallenge, EvasionTruth]:
    """All test records; the noise of the truth is drawn apart, so that no attack can know it."""
    records = subject.records("test")
    _check_test(len(records.labels))
    challenge = EvasionChallenge(
        seed=seed,
        attack=attack.card.name,
        records=records,
        epsilon=attack.epsilon,
        feature_range=subject.feature_range,
    )
    generator = stream(seed, "challenge", "evasion", "noise")
    signs = torch.where(torch.rand(records.features.shape, generator=generator) < 0.5, -1.0, 1.0)
    noisy = projected(records.features + attack.epsilon * signs, challenge)
    certified = _certified(subject, records.features, attack.epsilon)
    return challenge, EvasionTruth(records=records, predict=subject.predict, noisy=noisy, certified=certified)


def _certified(subject: Subject, features: torch.Tensor, epsilon: float) -> torch.Tensor | None:
    """What is proved of one last model whose circuit is known."""
    if not isinstance(subject, RunResult) or len(subject.models) != 1:
        return None
    from qflsec.attacks.evasion import certified_within  # it brings the privacy of whole circuits

    return certified_within(subject.pipeline.model, subject.models[0], features, epsilon)


def _honest(subject: Subject, threat: ThreatModel) -> list[int]:
    return [client for client in range(subject.training.n_clients) if client not in threat.clients]


def _those_in(records: Records, others: Records) -> Records:
    """Those of the records that are among the others."""
    same = (records.features[:, None] == others.features).all(dim=-1)
    return records.at((same & (records.labels[:, None] == others.labels)).any(dim=1))


def _none_of(records: Records) -> Records:
    """No record, of the shape of these: joined to others it changes nothing, and to nothing it gives a shape."""
    return Records(features=records.features[:0], labels=records.labels[:0])
