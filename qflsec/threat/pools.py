"""Pools of corrupted clients that are drawn at random."""

from __future__ import annotations

from qflsec.base import ConfigError, register, stream
from qflsec.threat.model import Knowledge, ThreatModel
from qflsec.threat.party import client

__all__ = ["drawn_clients"]


@register("threat", "drawn-clients")
def drawn_clients(
    *,
    n: int = 2,
    among: int = 10,
    draw: int = 0,
    each_seed: bool = False,
    active: bool = True,
    rushing: bool = False,
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary"),
) -> ThreatModel:
    """Clients that are drawn at random are corrupted, for a whole run.

    For clients that are not alike, such as those of a user's own files, where the first ones are no fair choice.

    Args:
        n: How many clients are corrupted.
        among: How many clients there are: the pipeline's ``n_clients``.
        draw: Which draw: another number gives another set.
        each_seed: Whether every seed has a draw of its own, in place of ``draw``: then intervals over seeds hold for
            clients that anybody might corrupt, and not for one set of them.
        active: Whether they deviate from the protocol, or only look.
        rushing: Whether they send after seeing the messages of the others in the same round.
        knows: What the adversary knows beforehand.

    Raises:
        ConfigError: There are not so many clients.
    """
    if not 0 <= n <= among:
        raise ConfigError(
            "cannot draw so many corrupted clients", got=f"n = {n}", expected=f"0 to among = {among}"
        )
    import torch

    order = torch.randperm(among, generator=stream(draw, "corrupted-clients", among)).tolist()
    return ThreatModel(
        name=f"{n}-drawn-clients" if each_seed else f"{n}-drawn-clients-{draw}",
        drawn_among=among if each_seed else 0,
        corrupted=frozenset(map(client, order[:n])),
        active=active,
        rushing=rushing,
        knows=knows,
    )
