"""Shadow models: trained by the adversary as the pipeline trains, on records whose membership it knows.

What an adversary trains depends on its records, on the records in question and on what it knows of the defenses,
never on the attack that asks and never on the model under attack. One set therefore serves every attack and every
stack that leaves the adversary knowing the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.challenges import ClientMembershipChallenge, MembershipChallenge
from qflsec.attacks.trainer import ShadowRequest, TracingTrainer
from qflsec.base import IncompatibleAttack, stream
from qflsec.threat import Records, View

__all__ = ["Question", "Shadows", "missing_shadows", "refuse_few_records", "shadow_sets", "train_shadows"]


Question = MembershipChallenge | ClientMembershipChallenge
"""Which records, or which clients' record sets, were trained on?"""


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """Models of which it is known what they were trained on.

    Attributes:
        inside: Whether each record in question was in the training set.
        auxiliary: Whether each of the adversary's own records was.
        params: The final models.
        trace: The first model and that after every round; None where these were not asked for.

    Shapes:
        inside: ``(s, n)``, boolean; auxiliary: ``(s, a)``, boolean; params: ``(s, P)``; trace: ``(s, round + 1, P)``
    """

    inside: Tensor
    auxiliary: Tensor
    params: Tensor
    trace: Tensor | None = None


def missing_shadows(view: View, challenge: Question, request: ShadowRequest) -> str | None:
    """Why there can be no shadow models; None where there can."""
    if challenge.trainer is None:
        return "nobody can train the pipeline on chosen records"
    if request.every_round and not isinstance(challenge.trainer, TracingTrainer):
        return "whoever trains on chosen records keeps the last model alone"
    if not request.online and (view.granted.auxiliary is None or not len(view.granted.auxiliary.labels)):
        return "the adversary has no records of its own to train shadow models on"
    return None


def train_shadows(view: View, challenge: Question, request: ShadowRequest) -> Shadows:
    """Train what was requested, under the defenses that the view knows of.

    Raises:
        IncompatibleAttack: The adversary has too few records.
    """
    assert challenge.trainer is not None  # missing_shadows() said so
    pool, members = shadow_sets(challenge, view.granted.auxiliary, request)
    n = len(challenge.groups)
    own = n if request.online else 0
    inside = members[:, :n] if request.online else torch.zeros(request.count, n, dtype=torch.bool)
    trace = None
    if request.every_round:
        assert isinstance(challenge.trainer, TracingTrainer)  # missing_shadows() said so
        trace = challenge.trainer.trace(pool, members, view.granted.defenses)
        params = trace[:, -1]
    else:
        params = challenge.trainer(pool, members, view.granted.defenses)
    return Shadows(inside=inside, auxiliary=members[:, own:], params=params, trace=trace)


def refuse_few_records(request: ShadowRequest, *, n_members: int, candidates: int, auxiliary: int) -> None:
    """Refuse shadow models that would have to do with fewer records than the model under attack.

    They would fit their records better than it does, and so tell of another model.

    Args:
        request: What an attack wants to have trained.
        n_members: Records of the model under attack.
        candidates: Records in question.
        auxiliary: The adversary's own records.

    Raises:
        IncompatibleAttack: The adversary has too few.
    """
    needed = max(0, n_members - (candidates // 2 if request.online else 0))
    if auxiliary < needed:
        half = " and half of the candidates" if request.online else ""
        raise IncompatibleAttack(
            f"the adversary has too few records of its own for shadow models of {n_members} records each",
            got=f"{auxiliary} auxiliary records{half}",
            expected=f"at least {needed} auxiliary records{half}",
            fix="raise 'auxiliary' of the pipeline's data, "
            + ("or its 'nonmembers'" if request.online else "or take the attack online"),
        )


def shadow_sets(
    challenge: Question, auxiliary: Records | None, request: ShadowRequest
) -> tuple[Records, Tensor]:
    """The records and the training sets: the same for every attack on the same question.

    Training sets have the size of the target's, or one record more where an odd number of candidates is halved. What is in
    question together is in a set together.

    Raises:
        IncompatibleAttack: The adversary has too few records.

    Shapes:
        returns: a pool of n records and ``(s, n)``, boolean
    """
    refuse_few_records(
        request,
        n_members=challenge.n_members,
        candidates=len(challenge.groups),
        auxiliary=0 if auxiliary is None else len(auxiliary.labels),
    )
    generator = stream(challenge.seed, "shadows", "online" if request.online else "offline")
    parts = [challenge.pool] if request.online else []
    parts += [] if auxiliary is None else [auxiliary]
    pool = Records.joined(parts)
    groups = challenge.groups if request.online else challenge.groups[:0]
    n = len(groups)
    inside = _halves(request.count, int(groups.max()) + 1 if n else 0, generator)[:, groups]
    rows = []
    for row in inside:
        wanted = max(0, challenge.n_members - int(row.sum()))
        drawn = torch.randperm(len(pool.labels) - n, generator=generator)[:wanted]
        others = torch.zeros(len(pool.labels) - n, dtype=torch.bool)
        others[drawn] = True
        rows.append(torch.cat([row, others]))
    return pool, torch.stack(rows)


def _halves(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Membership such that every candidate is in exactly half of the sets, each pair of sets complementary.

    A set and its complement hold n records between them, so that the sets differ in size as little as n allows:
    columns that were drawn one by one would give sets of binomial size.
    """
    halves = torch.zeros(count, n, dtype=torch.bool)
    for pair in range(count // 2):
        halves[2 * pair, torch.randperm(n, generator=generator)[: n // 2]] = True
        halves[2 * pair + 1] = ~halves[2 * pair]
    return halves
