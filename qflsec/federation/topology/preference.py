"""Preference: clients that weigh each other's models by the loss on records of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from qflsec.base import ConfigError, finite, register
from qflsec.federation.topology.base import Mix, Topology, Turn
from qflsec.threat import Party, client

__all__ = ["Preference", "preferences"]

Rule = Literal["softmin", "gain"]


def preferences(
    losses: torch.Tensor,
    shares: torch.Tensor,
    *,
    rule: Rule,
    beta: float,
    before: torch.Tensor,
    moved: torch.Tensor,
) -> torch.Tensor:
    """What each model counts for a client that has tried them all.

    Args:
        losses: The loss of each model on the client's records; a model whose loss is not finite counts nothing.
        shares: What each counts before it is tried: its share of the records.
        rule: ``"softmin"``: shares times ``exp(-beta loss)``; ``"gain"``: by how much the loss is below that of the model which the
            client trained from, over the distance from it, where it is below.
        beta: How fast a weight of a softmin falls with the loss.
        before: The loss of the model that the client trained from.
        moved: The distance of each model from that one.

    Shapes:
        losses, shares, moved: ``(k,)``; before: ``()``; returns: ``(k,)``, double, which adds up to 1, or is 0 where nothing gains
    """
    told, known = losses.double(), shares.double()
    sound = torch.isfinite(told)
    if rule == "softmin":
        least = told[sound].min() if bool(sound.any()) else told.new_zeros(())
        raw = known * torch.exp(-beta * (told - least))
    else:
        # a model that has not moved gains nothing
        raw = ((before.double() - told) / moved.double().clamp_min(1e-12)).clamp_min(0.0)
    # one model that overflows would take the weights of all others with it
    raw = torch.where(sound, raw, torch.zeros_like(raw))
    total = float(raw.sum())
    return raw / total if total > 0 else torch.zeros_like(raw)


@register("topology", "preference")
@finite
@dataclass(frozen=True, kw_only=True)
class Preference(Topology):
    """Every client trains a model of its own, sends it to all others, and takes a mean of what it likes best.

    There is no server. A client holds back a share of its records, trains on the others, and tries all models, its own among
    them, on those that it held back. Its next model is their mean, weighted by ``n_j exp(-beta L_k(w_j))`` (``softmin``), with n_j the
    records that client j trains on and L_k the mean loss at client k, or by ``max(0, L_k(v_k) - L_k(w_j)) / |w_j - v_k|`` (``gain``),
    with v_k the model that client k trained from. The latter is the slope of -L_k from v_k towards w_j, to first order. Where no
    model gains, a client goes on from what it trained. Client 0 sends everybody the first model.

    The weights are never sent. They count as known to everybody all the same, as all weights of topologies do, so that whoever
    gets the models of two rounds reads every update. Records that are held back steer the weights, and count as a client's own.

    Args:
        rule: How losses make weights.
        beta: How fast a weight of a softmin falls with the loss (per nat); 0 is federated averaging, up to rounding.
        held_back: The share of its records that a client tries models on and does not train on, rounded up; a client with one
            record keeps it for training. 0 tries models on the records that it trains on.

    Raises:
        ConfigError: A value is out of range.

    Source:
        After Zhang, Sapra, Fidler, Yeung, Alvarez: FedFomo, ICLR 2021, arXiv:2012.08565 (the weights of ``gain``, models tried on
        validation records); without its server, which picks the models that a client gets. The softmin is as stated here.
    """

    name = "preference"
    words = "clients that weigh each other's models by their own loss"
    without = "every client has all models of the others, and weighs them by records of its own that no layer guards"
    public_rosters = True
    personal = True
    weighs = True
    rule: Rule = "softmin"
    beta: float = 4.0
    held_back: float = 0.0

    def __post_init__(self) -> None:
        """Refuse rules that there are not, and values out of range."""
        if self.rule not in get_args(Rule):
            raise ConfigError(
                "unknown 'rule'", got=repr(self.rule), expected=" or ".join(map(repr, get_args(Rule)))
            )
        if self.beta < 0:
            raise ConfigError("'beta' is out of range", got=self.beta, expected="0 or more")
        if not 0 <= self.held_back <= 0.5:
            raise ConfigError("'held_back' is out of range", got=self.held_back, expected="from 0 to 0.5")

    def check(self, n_clients: int) -> None:
        """Refuse a network without others.

        Raises:
            ConfigError: There are too few clients.
        """
        if n_clients < 2:
            raise ConfigError("there are no models of others", got=n_clients, expected="at least 2 clients")

    def start(self, n_clients: int) -> Party:
        """The first client."""
        return client(0)

    def nodes(self, n_clients: int) -> int:
        """One for each client."""
        return n_clients

    def ruled(self, n_clients: int) -> tuple[tuple[int, ...], ...]:
        """Each client by itself."""
        return tuple((index,) for index in range(n_clients))

    def turns(self, n_clients: int, round_index: int) -> tuple[Turn, ...]:
        """A turn for each client, side by side."""
        return tuple(Turn(root=client(i), groups={client(i): (i,)}, node=i) for i in range(n_clients))

    def mixing(
        self,
        n_clients: int,
        round_index: int,
        *,
        present: Collection[int],
        counts: Sequence[float],
        seed: int,
    ) -> tuple[Mix, ...]:
        """Everybody's mean before models are tried: weighted by records."""
        here = sorted(present)
        if len(here) < 2:
            return ()
        total = sum(counts[i] for i in here)
        return tuple(
            Mix(maker=client(i), weights={j: counts[j] / total for j in here}, nodes=(i,)) for i in here
        )
