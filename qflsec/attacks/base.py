"""What an attack is: it gets a view, never the truth, and it never grades itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import torch

from qflsec.attacks.challenges import (
    Blocked,
    Challenge,
    Claim,
    ClientChallenge,
    ClientClaim,
    CohortChallenge,
    EvasionChallenge,
    EvasionClaim,
    InversionChallenge,
    InversionClaim,
    MembershipChallenge,
    MembershipClaim,
)
from qflsec.attacks.trainer import ShadowRequest
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, UpdateError, find, finite
from qflsec.federation import Adversary, Hands, Pipeline, Sending
from qflsec.models import Model
from qflsec.threat import Records, ThreatModel, View

__all__ = [
    "ActiveInference",
    "Attack",
    "BackdoorManipulation",
    "Inference",
    "Manipulation",
    "attack_from_config",
]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack as a frozen configuration with a card; it keeps nothing on itself."""

    card: ClassVar[AttackCard]

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:  # noqa: B027 - most attacks fit every pipeline
        """Refuse a pipeline on which the attack cannot be made; a matrix asks before anything runs.

        Raises:
            IncompatibleAttack: It cannot; the message says why.
        """

    @final
    def to_config(self) -> dict[str, Any]:
        """The attack's name and every parameter, JSON-able."""
        return {"name": self.card.name, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Inference(Attack):
    """An attack on confidentiality: a view and a challenge in, a claim out.

    It looks once, at the whole of a run, so that there is nothing to keep from one look to the next.

    Attributes:
        challenge_type: The challenge that it answers.
        reads: The kinds of items without which its claim is a guess, whatever else it reads: with noise in their place
            nothing is left of it. ``"single update"`` is an update of one client. Empty where that is not known.
    """

    challenge_type: ClassVar[type[Challenge]]
    reads: ClassVar[frozenset[str]] = frozenset()

    @final
    def __call__(self, view: View, challenge: Challenge) -> Claim | Blocked:
        """Check the needs, run, and check the claim; scoring is not the attack's business.

        Raises:
            ConfigError: The challenge is not of the attack's kind.
            UpdateError: The claim has the wrong shape or is not finite.
        """
        if not isinstance(challenge, self.challenge_type):
            raise ConfigError(
                f"attack {self.card.name!r} got the wrong challenge",
                got=type(challenge).__name__,
                expected=self.challenge_type.__name__,
            )
        attack = deepcopy(self)  # what it might note on itself cannot reach the next run
        reason = attack.missing(view, challenge)
        if reason is not None:
            return Blocked(reason=reason)
        claim = attack.run(view, challenge)
        _check_claim(self.card.name, claim, challenge)
        return claim

    def shadow_request(self) -> ShadowRequest | None:
        """The shadow models that it uses, so that they can be trained once for many; none by default."""
        return None

    @abstractmethod
    def missing(self, view: View, challenge: Any) -> str | None:  # noqa: ANN401 - the subclass names its own kind
        """What the attack needs and the view does not hold in any form; None where nothing is missing."""

    @abstractmethod
    def run(self, view: View, challenge: Any) -> Claim:  # noqa: ANN401 - the subclass names its own kind
        """The claim."""


@dataclass(frozen=True, kw_only=True)
class ActiveInference(Inference, Adversary):
    """An attack on confidentiality whose corrupted parties deviate during the run that it looks at afterwards.

    It runs on a run of its own. What its moves keep of the run (:meth:`Adversary.start`) is ``view.memory`` when it
    makes its claim. Where a protocol notices the deviation and stops, the trial is *aborted*: the run
    is lost, and nothing was learned beyond what its view holds until then.
    """

    @final
    def identity(self) -> dict[str, object]:
        """Name and every parameter."""
        return dict(self.to_config())


def _check_claim(name: str, claim: Claim, challenge: Challenge) -> None:
    if isinstance(claim, MembershipClaim) and isinstance(challenge, MembershipChallenge):
        value = claim.scores
        expected: tuple[int, ...] = (len(challenge.candidates.labels),)
    elif isinstance(claim, InversionClaim) and isinstance(challenge, InversionChallenge | CohortChallenge):
        value, expected = claim.features, (challenge.n_records, challenge.n_features)
    elif isinstance(claim, ClientClaim) and isinstance(challenge, ClientChallenge):
        value, expected = claim.scores, (challenge.n_questions,)
    elif isinstance(claim, EvasionClaim) and isinstance(challenge, EvasionChallenge):
        value, expected = claim.features, tuple(challenge.records.features.shape)
    else:
        raise UpdateError(f"attack {name!r} answered another challenge", got=type(claim).__name__)
    if tuple(value.shape) != expected:
        raise UpdateError(
            f"the claim of attack {name!r} has the wrong shape", got=tuple(value.shape), expected=expected
        )
    if not bool(torch.isfinite(value).all()):
        raise UpdateError(
            f"the claim of attack {name!r} is not finite", fix="return a finite score for each candidate"
        )
    if isinstance(challenge, EvasionChallenge):
        _check_budget(name, value, challenge)


def _check_budget(name: str, moved: torch.Tensor, challenge: EvasionChallenge) -> None:
    """Hold an evasion to what it may move."""
    original = challenge.records.features.double()
    farthest = float((moved.double() - original).abs().max())
    if farthest > challenge.epsilon + 1e-5:
        raise UpdateError(
            f"attack {name!r} moved a feature too far", got=farthest, expected=f"at most {challenge.epsilon}"
        )
    low, high = challenge.feature_range
    outside = torch.relu(moved.double() - original.clamp(min=high)) + torch.relu(
        original.clamp(max=low) - moved.double()
    )
    if float(outside.max()) > 1e-5:
        raise UpdateError(
            f"attack {name!r} moved a record out of the range of the features",
            expected=f"{low:g} to {high:g}",
        )


@dataclass(frozen=True, kw_only=True)
class Manipulation(Attack, Adversary):
    """An attack on integrity or availability through corrupted clients: hands in, updates out.

    An attack that remembers something from round to round overrides :meth:`start`, which makes the state of one
    run; :meth:`run` finds the states in ``hands.states`` and returns the next ones beside the updates.

    Attributes:
        compiles: Whether :meth:`deployed` is what a compiler makes of every model: then the honest one is executed in it too.
    """

    compiles: ClassVar[bool] = False

    @final
    def updates(self, hands: Hands) -> Sending:
        """Run; the loop calls this, and checks the shape."""
        return self.run(hands)

    @abstractmethod
    def run(self, hands: Hands) -> Sending:
        """What the corrupted clients send, alone or with the next state of each lane.

        :meth:`qflsec.federation.Adversary.updates` says what may be sent.

        Shapes:
            returns: ``(lane, m, P)``
        """

    def deployed(self, model: Model, params: torch.Tensor, *, triggered: bool) -> Model:
        """The model that is executed after training; the shared one by default.

        Where it is another one, a corrupted party must hand out the circuit that is deployed, or execute it for others.

        Args:
            model: The shared model.
            params: Its final parameters, which are public.
            triggered: Whether the attacker opens its backdoor; False for an attack that is no backdoor.

        Shapes:
            params: ``(P,)``
        """
        return model

    @final
    def identity(self) -> dict[str, object]:
        """Name and every parameter."""
        return dict(self.to_config())

    def corrupts(self, threat: ThreatModel) -> None:
        """Refuse a threat model without corrupted clients.

        Raises:
            ConfigError: No client is corrupted.
        """
        if not threat.clients:
            raise ConfigError(
                f"attack {self.card.name!r} acts through corrupted clients, but threat model {threat.name!r} has none",
                fix="use corrupted-clients with n >= 1",
            )


@finite
@dataclass(frozen=True, kw_only=True)
class BackdoorManipulation(Manipulation):
    """A manipulation that plants a trigger.

    Attributes:
        target_class: The class that triggered records shall get.
    """

    target_class: int = 1

    def __post_init__(self) -> None:
        """Refuse a class that cannot be one."""
        if self.target_class < 0:
            raise ConfigError("'target_class' is a class index", got=self.target_class, expected="0 or more")

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a target class that the model does not know.

        Raises:
            IncompatibleAttack: There is no such class.
        """
        super().check(pipeline, threat)
        n_classes = pipeline.model.n_classes
        if not 0 <= self.target_class < n_classes:
            raise IncompatibleAttack(
                f"{self.card.name!r} aims at a class that the model does not have",
                got=f"target_class={self.target_class}",
                expected=f"0 to {n_classes - 1}",
                fix="set 'target_class' of the attack",
            )

    @abstractmethod
    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Records with the trigger on them, for training and for the test of success.

        Shapes:
            features: ``(..., F)``; returns: ``(..., F)``
        """

    def victims(self, records: Records) -> torch.Tensor:
        """The test records on which success is measured: those of other classes than the target class.

        Shapes:
            returns: ``(n,)``, boolean
        """
        return records.labels != self.target_class


def attack_from_config(config: Mapping[str, Any]) -> Attack:
    """The attack described by its registry name and parameters.

    Raises:
        UnknownName: There is no such attack.
        ConfigError: A parameter is unknown or refused.
    """
    if "name" not in config:
        raise ConfigError("an attack without a name", got=dict(config), fix='add name = "..."')
    values = dict(config)
    kind = find("attack", str(values.pop("name")))
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"unknown parameter of attack {config['name']!r}",
            got=", ".join(unknown),
            expected=", ".join(sorted(known)) or "none",
        )
    attack = kind(**values)
    if not isinstance(attack, Attack):
        raise ConfigError(
            f"{config['name']!r} is registered as an attack but is none", got=type(attack).__name__
        )
    return attack
