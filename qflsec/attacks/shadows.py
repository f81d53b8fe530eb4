"""Shadow models: trained by the adversary as the pipeline trains, on records whose membership it knows.

What an adversary trains depends on its records, on the records in question and on what it knows of the defenses,
never on the attack that asks and never on the model under attack. One set therefore serves every attack and every
stack that leaves the adversary knowing the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.attacks.base import MembershipChallenge
from qflsec.attacks.trainer import ShadowRequest
from qflsec.base import stream
from qflsec.threat import Records, View

__all__ = ["Shadows", "missing_shadows", "shadow_sets", "train_shadows"]


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """Models of which it is known what they were trained on.

    Attributes:
        inside: Whether each candidate was in the training set.
        params: The models.

    Shapes:
        inside: ``(s, n)``, boolean; params: ``(s, P)``
    """

    inside: Tensor
    params: Tensor


def missing_shadows(view: View, challenge: MembershipChallenge, request: ShadowRequest) -> str | None:
    """Why there can be no shadow models; None where there can."""
    if challenge.trainer is None:
        return "nobody can train the pipeline on chosen records"
    if not request.online and (view.granted.auxiliary is None or not len(view.granted.auxiliary.labels)):
        return "the adversary has no records of its own to train shadow models on"
    return None


def train_shadows(view: View, challenge: MembershipChallenge, request: ShadowRequest) -> Shadows:
    """Train what was requested, under the defenses that the view knows of."""
    assert challenge.trainer is not None  # missing_shadows() said so
    pool, members = shadow_sets(challenge, view.granted.auxiliary, request)
    n = len(challenge.candidates.labels)
    inside = members[:, :n] if request.online else torch.zeros(request.count, n, dtype=torch.bool)
    return Shadows(inside=inside, params=challenge.trainer(pool, members, view.granted.defenses))


def shadow_sets(
    challenge: MembershipChallenge, auxiliary: Records | None, request: ShadowRequest
) -> tuple[Records, Tensor]:
    """The records and the training sets: the same for every attack on the same question.

    Training sets have the size of the target's where the records suffice, and are smaller where they do not.

    Shapes:
        returns: a pool of n records and ``(s, n)``, boolean
    """
    generator = stream(challenge.seed, "shadows", "online" if request.online else "offline")
    parts = [challenge.candidates] if request.online else []
    parts += [] if auxiliary is None else [auxiliary]
    pool = Records(
        features=torch.cat([part.features for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
    )
    n = len(challenge.candidates.labels) if request.online else 0
    inside = _halves(request.count, n, generator)
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
