"""Noise on clients' circuits as a defense: before measurement, on the encoded state, or in the readout.

Each layer adds one channel to every circuit that a client executes in its training. It earns an epsilon only where
nothing but sampled outcomes depends on a record's features: finite shots, the parameter-shift rule, and a model
without classical layers before the circuit. Labels enter the loss as they are, so that the epsilon is that of
records with one label whose features differ.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.limits import check_delta
from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, Source, register
from qflsec.circuits import Circuit, NoiseModel, measurement_groups
from qflsec.federation import CalibratedLayer, ExecutionLayer, Pipeline
from qflsec.models import Execution
from qflsec.protocols.qdp.errors import QdpError
from qflsec.protocols.qdp.mechanism_ledger import mechanism_rows, no_guarantee
from qflsec.protocols.qdp.training import TrainingAccount, account_training

__all__ = ["CircuitNoise", "DepolarizingNoise", "EncodingNoise", "NoisyMeasurement"]

_HIDES = "the features of any one record of a client, among records of its label, up to epsilon"
_DOES_NOT = (
    "It does not hide labels, or whether a record is there at all.",
    "It gives no epsilon where values are analytic or gradients exact.",
    "It does not bind a client that ignores it.",
    "It does not hold where the device has other noise than this.",
)
_AIM = 0.995


@dataclass(frozen=True, kw_only=True)
class CircuitNoise(ExecutionLayer, CalibratedLayer):
    """Noise on every circuit of a client's training.

    Attributes:
        p: The noise's parameter; 0.1 where no target is set.
        target_epsilon: In its place: the epsilon at ``delta`` that the whole run is to have for the features of a
            record; the noise follows from the shots, the circuits of a gradient, the local steps and the rounds.
        delta: The delta at which the ledger states epsilon.
        large_delta: Whether ``delta`` may be one over the number of records or more, so that one may be given away.

    Raises:
        ConfigError: A value is out of range, or both p and a target are set.
    """

    sets = frozenset({"noise"})
    most: ClassVar[float] = 1.0
    alone: ClassVar[bool] = True

    p: float | None = None
    target_epsilon: float | None = None
    delta: float = 1e-5
    large_delta: bool = False

    def __post_init__(self) -> None:
        if self.p is not None and self.target_epsilon is not None:
            raise ConfigError(
                "'p' and 'target_epsilon' exclude each other",
                got=f"p={self.p}, target_epsilon={self.target_epsilon}",
                fix="leave out one: a target sets the noise",
            )
        if self.target_epsilon is not None and not 0 < self.target_epsilon < math.inf:
            raise ConfigError(
                "'target_epsilon' is out of range", got=self.target_epsilon, expected="positive and finite"
            )
        if not 0 < self.delta < 1:
            raise ConfigError("'delta' is out of range", got=self.delta, expected="between 0 and 1")
        if self.p is None and self.target_epsilon is None:
            object.__setattr__(self, "p", 0.1)
        if self.p is not None and not 0 <= self.p <= self.most:
            raise ConfigError("'p' is out of range", got=self.p, expected=f"0 to {self.most:g}")

    @abstractmethod
    def noise_of(self, p: float) -> NoiseModel:
        """The noise with this parameter."""

    def noise(self) -> NoiseModel:
        """The noise.

        Raises:
            ConfigError: The layer has a target and was not calibrated for a run.
        """
        if self.p is None:
            raise ConfigError(
                f"{self.card.name!r} has a target epsilon and no noise yet",
                fix="use it in a run, or call calibrated(pipeline, counts) first",
            )
        return self.noise_of(self.p)

    def execution(self, execution: Execution) -> Execution:
        """With the noise."""
        return replace(execution, noise=self.noise())

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models without a circuit that the noisy kernel runs, and executions with noise of their own.

        Raises:
            IncompatibleStack: The noise cannot be added.
        """
        super().check(pipeline)
        check_delta(self, units=pipeline.data.members, unit="record")
        if pipeline.federation.natural_gradient is not None:
            raise IncompatibleStack(
                f"{self.card.name!r} has no epsilon for a natural gradient: its metric is a function of the records that the "
                "noise does not cover",
                fix="leave out 'natural_gradient'",
            )
        circuit: Circuit = pipeline.model.circuit  # type: ignore[attr-defined]
        if any(gate.name == "AmplitudeEmbedding" for gate in circuit.gates):
            raise IncompatibleStack(
                f"{self.card.name!r}: the noisy kernel has no amplitude embedding", fix="encode by rotations"
            )
        executions = (pipeline.execution, *pipeline.client_executions.values())
        for noise in (pipeline.model.noise, *(execution.noise for execution in executions)):
            if noise is not None:
                raise IncompatibleStack(
                    f"{self.card.name!r} adds noise, but the pipeline's model or execution has noise of its own",
                    got=noise,
                    fix="keep one of them",
                )

    def calibrated(self, pipeline: Pipeline, counts: Sequence[int]) -> CircuitNoise:
        """The layer with the least noise that its target needs in this run; itself where no target is set.

        Raises:
            ConfigError: No noise reaches the target, and why.
        """
        if self.target_epsilon is None:
            return self
        from scipy.optimize import brentq

        clients = range(pipeline.federation.n_clients)
        executions = dict.fromkeys(pipeline.execution_of(i) for i in clients)
        for execution in executions:
            if reason := no_guarantee(pipeline.model.only_measures, execution):
                raise ConfigError(f"{self.card.name!r} cannot reach a target epsilon: {reason}")
        # layers add the noise that an extrapolation needs
        noisy = [replace(execution, noise=self.noise_of(0.0)) for execution in executions]
        shots = max(execution.shots_in_all or 1 for execution in noisy)
        low, high = pipeline.data.feature_range
        config = pipeline.federation

        def excess(logarithm: float) -> float:
            """How far epsilon is above what is aimed at, in logarithms, by that of how far p is from ``most``."""
            noise = self.noise_of(self.most * -math.expm1(logarithm))
            account = _account(
                pipeline.model.circuit,  # type: ignore[attr-defined]
                noise,
                shots,
                config.uses,
                config.rounds,
                high - low,
                self.delta,
            )
            return math.log(max(account.run.epsilon, 1e-300) / (_AIM * self.target_epsilon))  # type: ignore[operator]

        try:
            if excess(-1e-9) <= 0:
                return replace(self, target_epsilon=None, p=self.most * -math.expm1(-1e-9))
            found = brentq(excess, -40.0, -1e-9, rtol=1e-4)
        except QdpError as error:
            raise ConfigError(
                f"{self.card.name!r} cannot reach a target epsilon: {error.what}",
                got=error.got,
                expected=error.expected,
            ) from error
        return replace(self, target_epsilon=None, p=self.most * -math.expm1(found))

    def account(self, context: LedgerContext, shots: int | None) -> TrainingAccount:
        """The account of a run in which clients take so many shots.

        Raises:
            QdpError: There is no proof for this circuit.
        """
        assert context.circuit_use is not None
        use = context.circuit_use
        return _account(
            use.circuit,
            self.noise(),
            shots,
            context.training.local_steps,
            context.training.rounds,
            use.span,
            self.delta,
        )

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """Epsilon against this observer; where there is none, what is missing."""
        return mechanism_rows(self.card.name, self.noise(), context, self.account)


@lru_cache(maxsize=256)
def _account(
    circuit: Circuit,
    noise: NoiseModel,
    shots: int | None,
    uses_per_round: int,
    rounds: int,
    span: float,
    delta: float,
) -> TrainingAccount:
    return account_training(
        circuit,
        noise,
        shots=shots,
        uses_per_round=uses_per_round,
        rounds=rounds,
        span=span,
        delta=delta,
    )


@register("layer", "depolarizing-noise")
@dataclass(frozen=True, kw_only=True)
class DepolarizingNoise(CircuitNoise):
    """Depolarising noise before measurement, rho -> (1 - p) rho + p I / D.

    Attributes:
        kind: ``"global"``: all qubits together; ``"local"``: each by itself.
    """

    card = DefenseCard(
        name="depolarizing-noise",
        idea="Clients depolarise the state of every circuit before they measure it.",
        source=Source(
            paper="Du, Hsieh, Liu, Tao, Liu: Quantum noise protects quantum classifiers against adversaries, "
            "Physical Review Research 3, 023153",
            year=2021,
            where="depolarisation channels and the privacy of classifiers; accounted over all copies here",
        ),
        claim="(epsilon, delta)-differential privacy of a record's features, over all copies that are measured, where "
        "finite shots and parameter-shift gradients are all that depends on them.",
        assumption="trusted device",
        hides=_HIDES,
        does_not=_DOES_NOT,
        cost="signal: expectation values shrink by 1 - p, so that as many shots tell less",
    )

    kind: Literal["global", "local"] = "global"

    def noise_of(self, p: float) -> NoiseModel:
        """The noise with this parameter."""
        return NoiseModel(kind=f"{self.kind}-depolarizing", p=p, where="measurement")


@register("layer", "encoding-noise")
@dataclass(frozen=True, kw_only=True)
class EncodingNoise(CircuitNoise):
    """Depolarising noise on the encoded state, after the last gate that reads a feature.

    Attributes:
        kind: ``"local"``: each qubit by itself; ``"global"``: all together.
    """

    card = DefenseCard(
        name="encoding-noise",
        idea="Clients depolarise the state that encodes a record, before the trained gates act on it.",
        source=Source(
            paper="Zhou, Ying: Differential privacy in quantum computation, CSF 2017",
            year=2017,
            where="depolarising mechanism; accounted over all copies here",
        ),
        claim="(epsilon, delta)-differential privacy of a record's features, over all copies, where finite shots and "
        "parameter-shift gradients are all that depends on them; whatever the gates behind the noise measure.",
        assumption="trusted device",
        hides=_HIDES,
        does_not=_DOES_NOT,
        cost="signal: it shrinks with every qubit on which an observable depends",
    )

    kind: Literal["local", "global"] = "local"

    def noise_of(self, p: float) -> NoiseModel:
        """The noise with this parameter."""
        return NoiseModel(kind=f"{self.kind}-depolarizing", p=p, where="encoded")


@register("layer", "noisy-measurement")
@dataclass(frozen=True, kw_only=True)
class NoisyMeasurement(CircuitNoise):
    """Readout that flips each bit with probability p: bit flips before a measurement in the Z basis."""

    card = DefenseCard(
        name="noisy-measurement",
        idea="Clients flip every bit that they read with some probability.",
        source=Source(
            paper="Warner: Randomized response, Journal of the American Statistical Association 60(309)",
            year=1965,
            where="randomised response, here on every outcome of a measurement",
        ),
        claim="(epsilon, delta)-differential privacy of a record's features, over all copies that are measured, where "
        "finite shots and parameter-shift gradients are all that depends on them.",
        assumption="trusted device",
        hides=_HIDES,
        does_not=_DOES_NOT,
        cost="signal: the expectation of a product of k bits shrinks by (1 - 2 p)^k",
    )

    most: ClassVar[float] = 0.5

    def noise_of(self, p: float) -> NoiseModel:
        """The noise with this parameter."""
        return NoiseModel(kind="bit-flip", p=p, where="measurement")

    def check(self, pipeline: Pipeline) -> None:
        """Refuse circuits that measure in another basis, in which a bit flip is no flip of what is read.

        Raises:
            IncompatibleStack: The noise cannot be added.
        """
        super().check(pipeline)
        groups = measurement_groups(pipeline.model.circuit)  # type: ignore[attr-defined]
        if any(set(group.basis) != {"Z"} for group in groups):
            raise IncompatibleStack(
                f"{self.card.name!r} models readout in the Z basis, but the model measures in others",
                got=", ".join(group.basis for group in groups),
                fix="measure products of Z, or use 'depolarizing-noise'",
            )
