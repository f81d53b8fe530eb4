"""Views: all that an attack gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from qflsec.models import CROSS_ENTROPY, Loss
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

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """The records of all parts, of which there is one at least."""
        return cls(
            features=torch.cat([part.features for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
        )

    def at(self, rows: torch.Tensor | Sequence[int]) -> Records:
        """Some of them."""
        return Records(features=self.features[rows], labels=self.labels[rows])

    def copied(self) -> Records:
        """The same records with values of their own."""
        return Records(features=self.features.clone(), labels=self.labels.clone())


@dataclass(frozen=True, kw_only=True)
class Granted:
    """Knowledge that a threat model may grant, and corrupted parties' own data.

    Attributes:
        model: The model as a pure function (``"architecture"``).
        auxiliary: Records of the same kind that are nobody's training data (``"auxiliary"``).
        defenses: The stack's public configuration (``"defenses"``).
        data: Each corrupted client's own records.
    """

    model: Any = None
    auxiliary: Records | None = None
    defenses: Any = None
    data: Mapping[Party, Records] = field(default_factory=dict)

    def under(self, threat: ThreatModel) -> Granted:
        """What this threat model grants of it."""
        own = {client(index) for index in threat.clients}
        return Granted(
            model=self.model if "architecture" in threat.knows else None,
            auxiliary=self.auxiliary if "auxiliary" in threat.knows else None,
            defenses=self.defenses if "defenses" in threat.knows else None,
            data={party: records for party, records in self.data.items() if party in own},
        )

    def copied(self) -> Granted:
        """The same knowledge with records of its own."""
        return replace(
            self,
            auxiliary=None if self.auxiliary is None else self.auxiliary.copied(),
            data={party: records.copied() for party, records in self.data.items()},
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
        about: The clients whose updates are in it. None where the coalition's messages do not show who took part:
            then it is ``of`` clients, unknown which.
        of: How many clients' updates are in it where ``about`` is None; None where that is not public either.
        version: Of a model: which one it is.
        base: Of what clients trained: the version that they started from; None where there are several, or it
            is not known.
        k: The number of honest clients in it whose shares the coalition does not know; 1 where neither they nor
            their number are known, as there may be no more.
        sender: Who sent it; for derived items, who sent the last part.
        receiver: Who received it.
        derived: Whether the coalition computed it from other items.
        granted: Whether the threat model grants it: an update as the client made it, before anything sealed it.
        reports: Of an update: what its client reports of itself beside it, by name.
        metric: Of an update or a sum, where clients upload their metric: the mean metric's entries. None elsewhere.
        places: Of what is about a part of the model alone: the places of its parameters; it is 0 in the others. None
            where it is about all.
    """

    round: int
    kind: str
    form: str
    value: Payload
    weight: float | None
    about: frozenset[int] | None
    sender: Party
    receiver: Party
    version: Version | None = None
    base: Version | None = None
    k: int = 0
    derived: bool = False
    of: int | None = None
    granted: bool = False
    reports: Mapping[str, float] = field(default_factory=dict)
    metric: torch.Tensor | None = None
    places: tuple[int, ...] | None = None

    @property
    def size(self) -> int | None:
        """How many clients' updates are in it; None where the coalition does not know."""
        return self.of if self.about is None else len(self.about)

    @property
    def roster(self) -> str:
        """Whose updates are in it, in words."""
        if self.about is not None:
            return f"client{'s' * (len(self.about) != 1)} {', '.join(map(str, sorted(self.about)))}"
        return "clients unknown, and how many" if self.of is None else f"{self.of} clients, unknown which"

    @property
    def named(self) -> frozenset[int]:
        """The clients whose updates are known to be in it."""
        return frozenset() if self.about is None else self.about

    @property
    def is_single(self) -> bool:
        """Whether it is one client's update, which the coalition can read."""
        return self.kind == "update" and self.form == "plain" and len(self.named) == 1

    def may_hold(self, client: int) -> bool:
        """Whether this client's update may be in it, as far as the coalition knows."""
        return self.about is None or client in self.about

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

    def copied(self) -> Item:
        """The same item with a value of its own."""
        if isinstance(self.value, bytes):
            return self
        value = self.value.clone() if isinstance(self.value, torch.Tensor) else self.value.copy()
        metric = None if self.metric is None else self.metric.clone()
        return self.with_fields(value=value, metric=metric)

    def with_k(self, k: int) -> Item:
        """The same item with its anonymity set."""
        return self if k == self.k else self.with_fields(k=k)

    def with_fields(self, **changed: object) -> Item:
        """The same item with other fields: a tenth of the time of replace(), and views hold thousands of items."""
        twin = object.__new__(Item)
        object.__setattr__(twin, "__dict__", vars(self) | changed)
        return twin


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
        knows_rosters: Whether the coalition can tell of some honest client whether it took part in some round, by
            what it hears or could infer. Where it cannot, nothing in the view depends on who did but the numbers
            that the server released.
    """

    threat: ThreatModel
    items: tuple[Item, ...]
    granted: Granted
    keys: frozenset[str] = frozenset()
    memory: Any = None
    oracle: Oracle | None = None
    knows_rosters: bool = True

    def readable(
        self, *kinds: str, round_index: int | None = None, about: int | None = None
    ) -> tuple[Item, ...]:
        """Readable items of these kinds.

        Args:
            kinds: The kinds; all where none is given.
            round_index: Only this round.
            about: Only items that are known to contain this client's contribution.
        """
        return tuple(
            item
            for item in self.items
            if item.form == "plain"
            and (not kinds or item.kind in kinds)
            and (round_index is None or item.round == round_index)
            and (about is None or about in item.named)
        )

    def final_model(self) -> torch.Tensor | None:
        """The last model that the coalition can read, or None."""
        models = self.readable("final-model", "model")
        return max(models, key=lambda item: item.round).vector if models else None

    def model(self, version: Version | None) -> torch.Tensor | None:
        """The model of this version, or None where the coalition cannot read it."""
        if version is None:
            return None
        found = self._models.get(version)
        return None if found is None else found.vector

    @cached_property
    def _models(self) -> dict[Version, Item]:
        """The first readable model of each version: attacks ask for the model behind each of thousands of updates."""
        found: dict[Version, Item] = {}
        for item in self.readable(*MODELS):
            if item.version is not None:
                found.setdefault(item.version, item)
        return found

    def copied(self) -> View:
        """The same view with values of its own, for another attack to do with as it likes."""
        return replace(self, items=tuple(item.copied() for item in self.items), granted=self.granted.copied())

    def base_of(self, item: Item) -> torch.Tensor | None:
        """The model that the clients of an item started from; None where there are several, or none can be read."""
        return self.model(item.base)

    def model_at(self, round_index: int) -> torch.Tensor | None:
        """The model of a round; None where none can be read, or there are several."""
        models = self.readable(*MODELS, round_index=round_index)
        return models[0].vector if len({item.version for item in models}) == 1 else None

    @property
    def loss(self) -> Loss:
        """What training minimises; cross entropy where the coalition knows no model that says so."""
        known: Loss = getattr(self.granted.model, "loss", CROSS_ENTROPY)
        return known

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
