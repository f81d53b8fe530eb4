"""Views: all that an attack gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from qflsec.threat.message import Payload
from qflsec.threat.model import ThreatModel
from qflsec.threat.party import Party, client
from qflsec.threat.versions import Version

__all__ = ["MODELS", "SUMS", "Granted", "Item", "Records", "View"]

MODELS = frozenset({"model", "final-model"})
"""The kinds of items that are models."""
SUMS = frozenset({"update", "aggregate", "step", "path"})
"""The kinds of items that hold what clients trained."""

Oracle = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Records:
    """Labelled records.

    Attributes:
        features: Features.
        labels: Class indices.

    Shapes:
        features: (n, F); labels: (n,)
    """

    features: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Granted:
    """Knowledge that a threat model may grant, and corrupted parties' own data.

    Attributes:
        model: The model as a pure function (``"architecture"``).
        auxiliary: Records of the same kind that are nobody's training data (``"auxiliary"``).
        defenses: The stack's public configuration (``"defenses"``).
        honest_updates: Updates of honest clients by round and client (``"honest-updates"``), a strong assumption.
        data: Each corrupted client's own records.
    """

    model: Any = None
    auxiliary: Records | None = None
    defenses: Any = None
    honest_updates: Mapping[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    data: Mapping[Party, Records] = field(default_factory=dict)

    def under(self, threat: ThreatModel) -> Granted:
        """What this threat model grants of it."""
        own = {client(index) for index in threat.clients}
        return Granted(
            model=self.model if "architecture" in threat.knows else None,
            auxiliary=self.auxiliary if "auxiliary" in threat.knows else None,
            defenses=self.defenses if "defenses" in threat.knows else None,
            honest_updates=dict(self.honest_updates) if "honest-updates" in threat.knows else {},
            data={party: records for party, records in self.data.items() if party in own},
        )


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that a coalition holds.

    Attributes:
        round: The round it belongs to.
        kind: ``model``, ``update``, ``aggregate`` (weighted mean of updates), ``step`` (what the server
            added to the model under a rule that is not a mean), ``path`` (what several steps added to a model,
            less what the coalition knows of them),
            ``announcement``, ``control``, ``final-model``.
        form: ``plain`` where the coalition can read it, else the form of the layer that stopped it.
        value: A vector of parameters, an array or bytes.
        weight: The number of examples behind an update or aggregate, where known.
        about: The clients whose contributions are in it.
        version: Of a model: which one it is.
        base: Of what clients trained: the version that they started from; None where there are several, or it
            is not known.
        k: The number of honest clients in it whose shares the coalition does not know.
        sender: Who sent it; for derived items, who sent the last part.
        receiver: Who received it.
        derived: Whether the coalition computed it from other items.
    """

    round: int
    kind: str
    form: str
    value: Payload
    weight: float | None
    about: frozenset[int]
    sender: Party
    receiver: Party
    version: Version | None = None
    base: Version | None = None
    k: int = 0
    derived: bool = False

    @property
    def vector(self) -> torch.Tensor:
        """The value as a vector.

        Raises:
            TypeError: The coalition cannot read this item.
        """
        if self.form != "plain" or not isinstance(self.value, torch.Tensor):
            msg = f"an item of form {self.form!r} is not a readable vector"
            raise TypeError(msg)
        return self.value

    def with_k(self, k: int) -> Item:
        """The same item with its anonymity set."""
        return replace(self, k=k)


@dataclass(frozen=True, kw_only=True)
class View:
    """What one coalition holds of one run.

    Attributes:
        threat: The threat model.
        items: Everything seen or computed, in order of rounds.
        granted: Granted knowledge and own data.
        keys: The names of the keys that the coalition holds.
        memory: The state that the coalition's adversary kept after its last move; None where it keeps nothing.
        oracle: Query access to the last model: features in, logits out; None where there is none.
    """

    threat: ThreatModel
    items: tuple[Item, ...]
    granted: Granted
    keys: frozenset[str] = frozenset()
    memory: Any = None
    oracle: Oracle | None = None

    def readable(
        self, *kinds: str, round_index: int | None = None, about: int | None = None
    ) -> tuple[Item, ...]:
        """Readable items of these kinds.

        Args:
            kinds: The kinds; all where none is given.
            round_index: Only this round.
            about: Only items that contain this client's contribution.
        """
        return tuple(
            item
            for item in self.items
            if item.form == "plain"
            and (not kinds or item.kind in kinds)
            and (round_index is None or item.round == round_index)
            and (about is None or about in item.about)
        )

    def final_model(self) -> torch.Tensor | None:
        """The last model that the coalition can read, or None."""
        models = self.readable("final-model", "model")
        return max(models, key=lambda item: item.round).vector if models else None

    def model(self, version: Version | None) -> torch.Tensor | None:
        """The model of this version, or None where the coalition cannot read it."""
        if version is None:
            return None
        return next((item.vector for item in self.readable(*MODELS) if item.version == version), None)

    def base_of(self, item: Item) -> torch.Tensor | None:
        """The model that the clients of an item started from; None where there are several, or none can be read."""
        return self.model(item.base)

    def model_at(self, round_index: int) -> torch.Tensor | None:
        """The model of a round; None where none can be read, or there are several."""
        models = self.readable(*MODELS, round_index=round_index)
        return models[0].vector if len({item.version for item in models}) == 1 else None

    def logits(self, features: torch.Tensor, *, round_index: int | None = None) -> torch.Tensor | None:
        """What a model answers to records, or None where the coalition can neither evaluate nor query it.

        Args:
            features: The records.
            round_index: The round at whose start the model stood; the last model by default, which query access
                answers for where its parameters cannot be read.

        Shapes:
            features: ``(n, F)``; returns: ``(n, K)``
        """
        params = self.final_model() if round_index is None else self.model_at(round_index)
        with torch.no_grad():
            if self.granted.model is not None and params is not None:
                answers: torch.Tensor = self.granted.model(params, features)
                return answers
            return self.oracle(features) if self.oracle is not None and round_index is None else None
