"""What an inference attack is asked, and what it may answer; the truth is in neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from qflsec.attacks.trainer import Trainer
from qflsec.base import stream
from qflsec.federation import FederationConfig
from qflsec.models import Execution
from qflsec.threat import Records

__all__ = [
    "Blocked",
    "Challenge",
    "Claim",
    "ClientChallenge",
    "ClientClaim",
    "ClientMembershipChallenge",
    "CohortChallenge",
    "DeviceChallenge",
    "EvasionChallenge",
    "EvasionClaim",
    "HoldingsChallenge",
    "InversionChallenge",
    "InversionClaim",
    "LabelSkewChallenge",
    "MembershipChallenge",
    "MembershipClaim",
    "ParticipationChallenge",
    "PropertyChallenge",
]


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """The kind of message that an attack needs does not exist in the view at all.

    Attributes:
        reason: What is missing, as a sentence.
    """

    reason: str


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What an attack is asked; the truth is not in it.

    Attributes:
        seed: The seed of the run that is attacked.
        attack: The attack's name, so that its stream depends on (attack, seed) alone.
    """

    seed: int
    attack: str

    def generator(self, purpose: str = "attack") -> torch.Generator:
        """The attack's stream for one purpose: the same whatever the defense."""
        return stream(self.seed, "attack", self.attack, purpose)


@dataclass(frozen=True, kw_only=True)
class MembershipChallenge(Challenge):
    """Which of these records were trained on?

    Attributes:
        candidates: Members and non-members in random order.
        target: The client whose training set is in question; None for any client's.
        n_members: How many records the target was trained on (the pipeline is public).
        trainer: Trains the pipeline on other records; None where nobody can.
    """

    candidates: Records
    target: int | None = None
    n_members: int = 0
    trainer: Trainer | None = None

    @property
    def pool(self) -> Records:
        """The records in question."""
        return self.candidates

    @property
    def groups(self) -> torch.Tensor:
        """Which records are in question together: each is for itself.

        Shapes:
            returns: ``(n,)``
        """
        return torch.arange(len(self.candidates.labels))


@dataclass(frozen=True, kw_only=True)
class MembershipClaim:
    """A score for each candidate, higher for members.

    Shapes:
        scores: ``(n,)``
    """

    scores: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class InversionChallenge(Challenge):
    """What were this client's records?

    Attributes:
        target: The client.
        n_records: How many records it has.
        n_features: Features of a record.
        feature_range: Where features lie.
        training: How the clients train (the pipeline is public).
    """

    target: int
    n_records: int
    n_features: int
    feature_range: tuple[float, float]
    training: FederationConfig


@dataclass(frozen=True, kw_only=True)
class InversionClaim:
    """Reconstructed records, in any order.

    Attributes:
        features: The reconstructions.
        labels: The labels, where the attack infers them.
        objective: The attack's own final objective, for the drill-down.
        misfit: That objective for any records, so that the scorer can tell why an inversion failed; None where the attack
            has none.
        steps: How many steps the search took; it ends with the first start that explains the update. 0 where there was none.

    Shapes:
        features: ``(n, F)``; labels: ``(n,)``
    """

    features: torch.Tensor
    labels: torch.Tensor | None = None
    objective: float = float("nan")
    misfit: Callable[[torch.Tensor, torch.Tensor], float] | None = field(default=None, repr=False)
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class CohortChallenge(Challenge):
    """What were the records of all these clients, however their updates were added up?

    Attributes:
        clients: The honest clients that have records.
        counts: How many each has.
        n_features: Features of a record.
        feature_range: Where features lie.
        training: How the clients train (the pipeline is public).
    """

    clients: tuple[int, ...]
    counts: tuple[int, ...]
    n_features: int
    feature_range: tuple[float, float]
    training: FederationConfig

    @property
    def n_records(self) -> int:
        """How many records there are."""
        return sum(self.counts)


@dataclass(frozen=True, kw_only=True)
class EvasionChallenge(Challenge):
    """How must these records be moved so that the model answers wrongly?

    Attributes:
        records: Records that nobody trained on, with their true labels.
        epsilon: How far each feature may be moved.
        feature_range: Where features lie; no record may be moved out of it.
    """

    records: Records
    epsilon: float
    feature_range: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class EvasionClaim:
    """The moved records, in the order of the challenge.

    Shapes:
        features: ``(n, F)``
    """

    features: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class ClientChallenge(Challenge, ABC):
    """Questions about clients, each with yes or no for an answer.

    Attributes:
        training: How the clients train (the pipeline is public).
    """

    training: FederationConfig

    @property
    @abstractmethod
    def n_questions(self) -> int:
        """How many questions there are."""


@dataclass(frozen=True, kw_only=True)
class ClientMembershipChallenge(ClientChallenge):
    """Which of these are the record sets of clients that took part in the training?

    Attributes:
        candidates: Whole record sets, those of the honest clients and others, in random order.
        n_members: How many records were trained on (the pipeline is public).
        trainer: Trains the pipeline on other records; None where nobody can.
    """

    candidates: tuple[Records, ...]
    n_members: int
    trainer: Trainer | None = None

    @property
    def pool(self) -> Records:
        """The records of all sets, set after set."""
        return Records.joined(self.candidates)

    @property
    def groups(self) -> torch.Tensor:
        """The set of each record.

        Shapes:
            returns: ``(n,)``
        """
        sizes = torch.tensor([len(one.labels) for one in self.candidates])
        return torch.arange(len(self.candidates)).repeat_interleave(sizes)

    @property
    def n_questions(self) -> int:
        """One for each record set."""
        return len(self.candidates)


@dataclass(frozen=True, kw_only=True)
class ParticipationChallenge(ClientChallenge):
    """In which rounds did each of these clients take part?

    Attributes:
        clients: The honest clients that have records.
        records: Their records, which the adversary is told.
        rounds: The rounds.
    """

    clients: tuple[int, ...]
    records: tuple[Records, ...]
    rounds: tuple[int, ...]

    @property
    def n_questions(self) -> int:
        """One for each client in each round, round after round."""
        return len(self.rounds) * len(self.clients)


@dataclass(frozen=True, kw_only=True)
class PropertyChallenge(ClientChallenge):
    """Which clients have more of a property than the others?

    Attributes:
        clients: The honest clients that have records.
        counts: How many each has.
    """

    clients: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def n_questions(self) -> int:
        """One for each client."""
        return len(self.clients)


@dataclass(frozen=True, kw_only=True)
class LabelSkewChallenge(PropertyChallenge):
    """Whose records are of one class more often than those of others?

    Attributes:
        label: The class.
        execution: How clients execute the model.
    """

    label: int
    execution: Execution


@dataclass(frozen=True, kw_only=True)
class DeviceChallenge(PropertyChallenge):
    """Who executes the model on one device, and who on another?

    Attributes:
        device: What executions on the device in question are like.
        others: What they are like elsewhere.
    """

    device: Execution
    others: tuple[Execution, ...]


@dataclass(frozen=True, kw_only=True)
class HoldingsChallenge(PropertyChallenge):
    """Who is of a kind that lacks, or has, a block of features, where clients hold some blocks each?

    Attributes:
        kinds: Which features each kind of client holds.
        asked: Which kinds are in question.
        fill: What stands in for the features that a client does not hold.
        execution: How clients execute the model.

    Shapes:
        kinds: ``(F,)`` each, boolean; fill: ``(F,)``
    """

    kinds: tuple[torch.Tensor, ...]
    asked: tuple[bool, ...]
    fill: torch.Tensor
    execution: Execution


@dataclass(frozen=True, kw_only=True)
class ClientClaim:
    """A score for each question about clients, higher where the answer is more likely yes.

    Shapes:
        scores: ``(n,)``
    """

    scores: torch.Tensor


Claim = MembershipClaim | InversionClaim | EvasionClaim | ClientClaim
