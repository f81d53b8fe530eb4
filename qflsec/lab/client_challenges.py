"""Questions about clients: what an attack is asked, and the truth that its scorer keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.attacks import (
    ClientChallenge,
    ClientMembershipChallenge,
    DeviceChallenge,
    HoldingsChallenge,
    Inference,
    LabelSkewChallenge,
    ParticipationChallenge,
)
from qflsec.attacks.trainer import Trainer
from qflsec.base import IncompatibleAttack, stream
from qflsec.federation import Pipeline
from qflsec.lab.scoring.trial import ClientTruth
from qflsec.lab.subject import Subject
from qflsec.threat import Records, ThreatModel, View

__all__ = ["check_client_challenge", "client_challenge", "draw_client_sets"]

_LABEL = 1
"""The class whose share is in question: the second, which in a binary task says as much as the first."""


def check_client_challenge(kind: type[ClientChallenge], pipeline: Pipeline) -> None:
    """Refuse a pipeline from whose runs no question of this kind can be made.

    Args:
        kind: The kind.
        pipeline: What is attacked.

    Raises:
        IncompatibleAttack: None can be made.
    """
    if issubclass(kind, ClientMembershipChallenge) and not pipeline.data.nonmembers:
        raise IncompatibleAttack(
            "a client-membership game needs record sets that nobody trained on",
            got="no non-members",
            fix="raise 'nonmembers' of the pipeline's data, at best to the number of members",
        )
    if issubclass(kind, ParticipationChallenge) and pipeline.federation.who == "all":
        raise IncompatibleAttack(
            "all clients take part in every round, so that nothing is left to ask",
            got=f"participation={pipeline.federation.participation}",
            fix="set 'participation' of the federation below 1",
        )
    if issubclass(kind, DeviceChallenge) and not pipeline.client_executions:
        raise IncompatibleAttack(
            "all clients execute the model alike, so that no device can be told",
            got="no client executions",
            fix="set 'client_executions' of the pipeline for some clients",
        )
    if issubclass(kind, HoldingsChallenge) and not pipeline.data.hides_blocks:
        raise IncompatibleAttack(
            "all clients hold every block of features, so that no missing one can be told",
            got=f"blocks={pipeline.data.blocks}, held_blocks={pipeline.data.held_blocks}",
            fix="set 'blocks' and 'held_blocks' of the pipeline's data",
        )


def client_challenge(
    attack: Inference, subject: Subject, *, seed: int, threat: ThreatModel, trainer: Trainer | None
) -> tuple[ClientChallenge, ClientTruth]:
    """A challenge about clients, and its truth. Corrupted clients know of themselves, so they are no question.

    Args:
        attack: The attack.
        subject: What is attacked.
        seed: The seed of the run.
        threat: The threat model.
        trainer: Trains the subject's pipeline on other records; None where nobody can.

    Raises:
        IncompatibleAttack: No challenge of the attack's kind can be made from the subject.
    """
    honest = [i for i in range(subject.training.n_clients) if i not in threat.clients]
    held = {i: records for i in honest if len((records := subject.client_records(i)).labels)}
    if not held:
        raise IncompatibleAttack(
            "a question about clients needs an honest client with a record", got=str(threat)
        )
    kind, name = attack.challenge_type, attack.card.name
    if issubclass(kind, ClientMembershipChallenge):
        return _membership(name, subject, held, seed, trainer)
    if issubclass(kind, ParticipationChallenge):
        return _participation(name, subject, held, seed)
    if issubclass(kind, LabelSkewChallenge):
        return _label_skew(name, subject, held, seed, threat)
    if issubclass(kind, DeviceChallenge):
        return _device(name, subject, held, seed, threat)
    if issubclass(kind, HoldingsChallenge):
        return _holdings(name, subject, held, seed, threat)
    raise IncompatibleAttack(
        f"the lab has no question about clients for attack {name!r}",
        got=kind.__name__,
        expected="client membership, participation, label skew, device or holdings",
    )


def _membership(
    name: str, subject: Subject, held: dict[int, Records], seed: int, trainer: Trainer | None
) -> tuple[ClientMembershipChallenge, ClientTruth]:
    sets, member = draw_client_sets(list(held.values()), subject.records("nonmember"), seed)
    challenge = ClientMembershipChallenge(
        seed=seed,
        attack=name,
        training=subject.training,
        candidates=sets,
        n_members=len(subject.records("member").labels),
        trainer=trainer,
    )
    return challenge, ClientTruth(holds=member)


def draw_client_sets(
    held: Sequence[Records], nonmembers: Records, seed: int
) -> tuple[tuple[Records, ...], torch.Tensor]:
    """Record sets of clients, each beside one that nobody trained on, in random order, and which are of clients.

    A set that nobody trained on has the size of its client's, and as many records of each class as there are left, so that
    neither tells the two apart. Clients for whom no records are left are no candidates.

    Args:
        held: The records of each honest client that has any.
        nonmembers: Records that nobody trained on.
        seed: The seed of the run.

    Raises:
        IncompatibleAttack: There are too few records that nobody trained on for a single set.

    Shapes:
        returns: 2 m record sets, and ``(2 m,)``, boolean
    """
    generator = stream(seed, "challenge", "client-membership")
    left = torch.randperm(len(nonmembers.labels), generator=generator).tolist()
    sets: list[Records] = []
    for place in torch.randperm(len(held), generator=generator).tolist():
        client = held[place]
        if len(client.labels) > len(left):
            continue
        rows = []
        for label in client.labels.tolist():
            row = next((one for one in left if int(nonmembers.labels[one]) == label), left[0])
            left.remove(row)
            rows.append(row)
        sets += [client, nonmembers.at(rows)]
    if not sets:
        raise IncompatibleAttack(
            "no record set of a client's size is left that nobody trained on",
            got=f"{len(nonmembers.labels)} non-members",
            expected=f"at least {min(len(one.labels) for one in held)}",
            fix="raise 'nonmembers' of the pipeline's data",
        )
    order = torch.randperm(len(sets), generator=generator)
    return tuple(sets[place] for place in order.tolist()), order % 2 == 0


def _participation(
    name: str, subject: Subject, held: dict[int, Records], seed: int
) -> tuple[ParticipationChallenge, ClientTruth]:
    rounds = tuple(sorted(subject.participants))
    challenge = ParticipationChallenge(
        seed=seed,
        attack=name,
        training=subject.training,
        clients=tuple(held),
        records=tuple(held.values()),
        rounds=rounds,
    )
    took = [client in subject.participants[index] for index in rounds for client in held]
    return challenge, ClientTruth(holds=torch.tensor(took))


def _label_skew(
    name: str, subject: Subject, held: dict[int, Records], seed: int, threat: ThreatModel
) -> tuple[LabelSkewChallenge, ClientTruth]:
    challenge = LabelSkewChallenge(
        seed=seed,
        attack=name,
        training=subject.training,
        clients=tuple(held),
        counts=tuple(len(one.labels) for one in held.values()),
        label=_LABEL,
        execution=subject.executions[min(held)],
    )
    shares = torch.tensor([float((one.labels == _LABEL).double().mean()) for one in held.values()])
    return challenge, _shared(shares.double(), challenge.counts, tuple(held), subject.view(threat))


def _device(
    name: str, subject: Subject, held: dict[int, Records], seed: int, threat: ThreatModel
) -> tuple[DeviceChallenge, ClientTruth]:
    """The device of the first client that is on none which most clients are on."""
    mine = [subject.executions[client] for client in held]
    usual = max(mine, key=mine.count)
    device = next((one for one in mine if one != usual), None)
    if device is None:
        raise IncompatibleAttack(
            "all honest clients execute the model alike, so that no device can be told", got=str(usual)
        )
    others = tuple(dict.fromkeys(one for one in mine if one != device))
    challenge = DeviceChallenge(
        seed=seed,
        attack=name,
        training=subject.training,
        clients=tuple(held),
        counts=tuple(len(one.labels) for one in held.values()),
        device=device,
        others=others,
    )
    on = torch.tensor([float(one == device) for one in mine], dtype=torch.float64)
    return challenge, _shared(on, challenge.counts, tuple(held), subject.view(threat))


def _holdings(
    name: str, subject: Subject, held: dict[int, Records], seed: int, threat: ThreatModel
) -> tuple[HoldingsChallenge, ClientTruth]:
    """Who lacks a block, or has it where more lack it; which block goes by the seed."""
    known = subject.holdings
    if known is None:
        raise IncompatibleAttack(
            "all clients hold every block of features, so that no missing one can be told",
            got="no blocks that anybody lacks",
        )
    kinds, block = range(known.n_kinds), seed % known.n_kinds
    few = 2 * known.held >= known.n_kinds
    asked = tuple(known.lacks(kind, block) == few for kind in kinds)
    challenge = HoldingsChallenge(
        seed=seed,
        attack=name,
        training=subject.training,
        clients=tuple(held),
        counts=tuple(len(one.labels) for one in held.values()),
        kinds=tuple(known.of(kind) for kind in kinds),
        asked=asked,
        fill=known.fill,
        execution=subject.executions[min(held)],
    )
    those = torch.tensor([float(asked[known.clients[client]]) for client in held], dtype=torch.float64)
    # not the median: kinds have unequally many clients, and most may be of the kinds in question
    return challenge, _shared(those, challenge.counts, tuple(held), subject.view(threat), above=0.5)


def _shared(
    values: torch.Tensor,
    counts: Sequence[int],
    clients: Sequence[int],
    view: View,
    *,
    above: float | None = None,
) -> ClientTruth:
    """Who has more than a number, by default the median, and what the exact mean over every sum of the view would tell of it."""
    least = float(values.sort().values[(len(values) - 1) // 2]) if above is None else above
    weight = dict(zip(clients, counts, strict=True))
    items = [
        item
        for item in view.readable("update", "aggregate", "step")
        if item.named
        and item.named <= set(clients)
        and item.k > 0  # of a sum of known shares nothing is hidden
    ]
    rosters = {item.named for item in items}
    rows = torch.tensor(
        [
            [weight[c] * (c in named) / sum(weight[one] for one in named) for c in clients]
            for named in sorted(rosters, key=sorted)
        ],
        dtype=torch.float64,
    ).reshape(-1, len(clients))
    level = float((values * torch.tensor(counts)).sum() / sum(counts))
    told = level + torch.linalg.pinv(rows) @ (rows @ (values - level))
    return ClientTruth(
        holds=values > least,
        values=values,
        told_by_sums=told,
        anonymity=tuple(min((i.k for i in items if c in i.named), default=0) for c in clients),
    )
