"""Checks of attacks: on a small federation, under the first threat model that lets them act."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from qflsec.attacks import (
    ActiveInference,
    Blocked,
    Challenge,
    Claim,
    DeviceChallenge,
    EvasionClaim,
    Inference,
    InversionClaim,
    Manipulation,
    MembershipChallenge,
    attack_from_config,
)
from qflsec.base import ConfigError, IncompatibleAttack, QflsecError
from qflsec.federation import Adversary, RunResult, RunSpec
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.conformance.federation import (
    SEEDS,
    changes,
    device_runs,
    honest_runs,
    other_chance,
    runs,
    same_model,
)
from qflsec.lab.conformance.trial import Configured, Fault, Unchecked, Written
from qflsec.lab.scoring import Truth, score_claim, score_manipulation
from qflsec.threat import (
    NOBODY,
    Knowledge,
    ThreatModel,
    coalition,
    corrupted_clients,
    honest_but_curious_server,
    malicious_quantum_server,
    malicious_server,
    public_final_model,
    wire_eavesdropper,
)

__all__ = ["attack_trial"]

_KNOWS: tuple[Knowledge, ...] = ("architecture", "auxiliary", "defenses")
_LOOKING = (
    honest_but_curious_server(),
    public_final_model(),
    wire_eavesdropper(),
    corrupted_clients(n=1, active=False),
    coalition(server=True, n=1),
)
_ACTING = (
    corrupted_clients(n=1),
    malicious_server(),
    wire_eavesdropper(active=True),
    coalition(server=True, n=1, active=True),
    malicious_quantum_server(),
)


class _AttackTrial(Written):
    """An attack, tried."""

    unchecked = ""

    def again(self, config: Mapping[str, Any]) -> object:
        """The attack of a configuration."""
        return attack_from_config(config)


class InferenceTrial(_AttackTrial):
    """An attack on confidentiality, tried."""

    @cached_property
    def _attack(self) -> Inference:
        made: Inference = self.made
        return made

    @cached_property
    def _place(self) -> tuple[ThreatModel, tuple[RunResult, ...]]:
        """The first threat model under which it is not blocked, and the runs that it looks at."""
        if self.unchecked:
            raise Unchecked(self.unchecked)
        blocked = {}
        for threat in _ACTING if isinstance(self._attack, ActiveInference) else _LOOKING:
            knowing = replace(threat, knows=_KNOWS)
            try:
                made = self._runs(knowing)
                answer = self._answer(made[0], knowing)
            except (IncompatibleAttack, ConfigError) as error:
                blocked[threat.name] = str(error)
                continue
            if not isinstance(answer, Blocked):
                return knowing, made
            blocked[threat.name] = answer.reason
        reasons = "; ".join(f"{name}: {reason}" for name, reason in blocked.items())
        self.unchecked = f"under every threat model of the check it is blocked: {reasons}"
        raise Unchecked(self.unchecked)

    def _runs(self, threat: ThreatModel) -> tuple[RunResult, ...]:
        if not isinstance(self._attack, ActiveInference):
            devices = issubclass(self._attack.challenge_type, DeviceChallenge)
            return device_runs() if devices else honest_runs()
        self._attack.corrupts(threat)
        specs = [RunSpec(seed=seed, adversary=self._attack, threat=threat) for seed in SEEDS]
        if self._attack.challenge_type is MembershipChallenge:
            asked = [_asked(self._attack, run, threat)[0] for run in honest_runs()]
            questions = [challenge for challenge in asked if isinstance(challenge, MembershipChallenge)]
            specs = [
                replace(spec, asked=question.candidates)
                for spec, question in zip(specs, questions, strict=True)
            ]
        return tuple(runs(specs))

    def _answer(self, run: RunResult, threat: ThreatModel) -> Claim | Blocked:
        challenge, truth = _asked(self._attack, run, threat)
        answer = self._attack(run.view(threat), challenge)
        if not isinstance(answer, Blocked):
            score_claim(answer, truth)
        return answer

    def shapes(self) -> str:
        """A claim that the scorer takes."""
        threat, made = self._place
        self._answer(made[1], threat)
        return f"under {threat.name}"

    def control(self) -> str:
        """Without a corrupted party there is nothing to see."""
        _, made = self._place
        answer = self._answer(made[0], NOBODY)
        if not isinstance(answer, Blocked):
            raise Fault("it makes a claim from the view of nobody: let 'missing' say what the view lacks")
        return answer.reason

    def state(self) -> None:
        """Nothing is kept from one look to the next."""
        threat, made = self._place
        copy = replace(self._attack)
        challenge, _ = _asked(self._attack, made[0], threat)
        with changes(copy) as found:
            if copy.missing(made[0].view(threat), challenge) is None:
                copy.run(made[0].view(threat), challenge)
        if found:
            raise Fault(f"it keeps {', '.join(found)}")
        first = self._answer(made[0], threat)
        self._answer(made[1], threat)
        if not _equal(first, self._answer(made[0], threat)):
            raise Fault("its claim depends on what it looked at before")

    def determinism(self) -> None:
        """All chance comes from the challenge's generator."""
        threat, made = self._place
        answers = []
        for seed in (1, 2):
            with other_chance(seed):
                answers.append(self._answer(made[0], threat))
        if not _equal(*answers):
            raise Fault("two claims about one run differ: draw from challenge.generator() alone")


class ManipulationTrial(_AttackTrial):
    """An attack through corrupted parties, tried."""

    @cached_property
    def _attack(self) -> Manipulation:
        made: Manipulation = self.made
        return made

    @cached_property
    def _threat(self) -> ThreatModel:
        if self.unchecked:
            raise Unchecked(self.unchecked)
        refused = {}
        for threat in _ACTING:
            try:
                self._attack.corrupts(threat)
                runs([self._spec(threat, SEEDS[0])])
            except (IncompatibleAttack, ConfigError) as error:
                refused[threat.name] = str(error)
            else:
                return threat
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        self.unchecked = f"no threat model of the check lets it act: {reasons}"
        raise Unchecked(self.unchecked)

    def _spec(self, threat: ThreatModel, seed: int) -> RunSpec:
        adversary: Adversary = self._attack
        return RunSpec(seed=seed, adversary=adversary, threat=threat)

    def _specs(self) -> list[RunSpec]:
        return [self._spec(self._threat, seed) for seed in SEEDS]

    def shapes(self) -> str:
        """Updates that the loop takes, and a run that can be scored."""
        for run, honest in zip(runs(self._specs()), honest_runs(), strict=True):
            if run.outcome == "completed":
                score_manipulation(self._attack, run, honest)
        return f"under {self._threat.name}"

    def control(self) -> str:
        """Without a corrupted party nobody can act."""
        try:
            self._attack.corrupts(NOBODY)
        except QflsecError as refused:
            return str(refused)
        raise Fault("it acts though nobody is corrupted: let 'corrupts' refuse such a threat model")

    def state(self) -> None:
        """A run alone is the run beside others."""
        specs = self._specs()
        with changes(self._attack) as found:
            together = runs(specs)
        if found:
            raise Fault(f"it keeps {', '.join(found)}: return it as the next state")
        if not all(same_model(runs([spec])[0], run) for spec, run in zip(specs, together, strict=True)):
            raise Fault("a run alone is not the run beside others: something is kept outside the state")

    def determinism(self) -> None:
        """All chance comes from the hands' generators."""
        made = []
        for seed in (1, 2):
            with other_chance(seed):
                made.append(runs(self._specs()))
        if not all(same_model(first, second) for first, second in zip(*made, strict=True)):
            raise Fault("two runs of one seed differ: draw from hands.generators alone")


def _asked(attack: Inference, run: RunResult, threat: ThreatModel) -> tuple[Challenge, Truth]:
    trainer = ShadowTrainer(pipeline=run.pipeline, like=run.dataset, seed=run.spec.seed)
    return challenge_for(attack, run, seed=run.spec.seed, threat=threat, trainer=trainer)


def _equal(first: Claim | Blocked, second: Claim | Blocked) -> bool:
    return type(first) is type(second) and all(
        torch.equal(a, b) for a, b in zip(_values(first), _values(second), strict=True)
    )


def _values(answer: Claim | Blocked) -> Iterator[torch.Tensor]:
    if isinstance(answer, Blocked):
        return
    yield answer.features if isinstance(answer, InversionClaim | EvasionClaim) else answer.scores


class InsideTrial(Configured):
    """An attack inside a protocol: its card alone can be checked here."""

    def shapes(self) -> None:
        """It has matrices of its own."""
        raise Unchecked("an attack inside a protocol is tried by a matrix of its kind")

    def pickling(self) -> None:
        """It is a configuration of its protocol's own."""
        if pickle.loads(pickle.dumps(self.made)) != self.made:  # noqa: S301 - pickled here
            raise Fault("what comes back from pickle is not equal to it")


def attack_trial(name: str, thing: Any) -> Configured:  # noqa: ANN401 - plugins are heterogeneous
    """How an attack is tried."""
    if issubclass(thing, Inference):
        return InferenceTrial(name, thing)
    return ManipulationTrial(name, thing) if issubclass(thing, Manipulation) else InsideTrial(name, thing)
