"""The gradient-leak certificate: what the gradients of a model determine about records, before any attack is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from qflsec.attacks.inversion.leak.pauli import Floats
from qflsec.attacks.inversion.leak.snapshot import (
    MAX_UNKNOWNS,
    Shown,
    alone_rank,
    encoded_coordinates,
    known_rank,
)
from qflsec.attacks.inversion.leak.structure import structure_of
from qflsec.attacks.inversion.leak.tangent import Tangent, tangent_of
from qflsec.base import ConfigError, stream
from qflsec.circuits import Circuit
from qflsec.models import Hybrid, Model, Vqc

__all__ = ["Certificate", "CircuitLeak", "Unknowns", "certify", "circuit_of"]

MAX_ROUNDS = 24

Reveals = Literal["one value's gradient", "a mixture's gradient", "values and a known mixture's gradient"]


@dataclass(frozen=True, kw_only=True)
class Unknowns:
    """The linear system of one kind of attacker.

    Attributes:
        encoder_known: Whether the attacker knows how features are encoded, and solves for encoded states only.
        visible: What of an encoded state the algebra lets gradients show.
        count: What of it the circuit's depth reaches: the unknowns to solve for.
        at_least: Rounds that no attacker of this kind can do without: the unknowns over the most that one round shows.
        ranks: The rank after one round, two, and so on, with known residuals; empty where it was not computed.
        rounds_known: Rounds to a full breach for an attacker who knows each round's residual (as one who is told the
            loss); None where it takes more than were tried.
        rounds_alone: The same from gradients alone; None also where residuals are several unknowns a round.
        condition: The condition number at ``rounds_known``.
    """

    encoder_known: bool
    visible: int
    count: int
    at_least: int
    ranks: tuple[int, ...] = ()
    rounds_known: int | None = None
    rounds_alone: int | None = None
    condition: float = math.nan


@dataclass(frozen=True, kw_only=True)
class CircuitLeak:
    """What the gradients of a circuit show of the state that its encoder prepares.

    Attributes:
        n_qubits: The wires.
        algebra: The dimension of the dynamical Lie algebra.
        largest: The dimension of the largest one on so many wires, ``4**n - 1``.
        cap: The most independent derivatives of one measured value in one round, whatever the number of weights.
        reveals: What an update of one record shows of the measured values.
        unknowns: Of an attacker who does not know the encoder, and of one who does.
    """

    n_qubits: int
    algebra: int
    largest: int
    cap: int
    reveals: Reveals
    unknowns: tuple[Unknowns, Unknowns]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What gradients determine, as dimensions, ranks and condition numbers.

    It says what can be had and how noise grows on the way; it does not say that a search finds it, and nothing in it is
    a guarantee of privacy.

    Attributes:
        model: The model's name.
        n_params: Its parameters.
        n_features: Features of a record.
        records: Records in one gradient.
        tangent: The gradient map near random records: it holds for every model.
        circuit: The linear system of the encoded state; None where there is none.
        refusal: Why there is none.
        first_layer: Whether a classical layer with a bias comes first: then one record follows from its update in
            closed form.
    """

    model: str
    n_params: int
    n_features: int
    records: int
    tangent: Tangent
    circuit: CircuitLeak | None
    refusal: str
    first_layer: bool

    def warnings(self) -> Iterator[str]:
        """What follows, a sentence each."""
        yield from self.tangent.sentences(self.records)
        if self.first_layer:
            yield (
                "a classical layer with a bias comes first: one record's features are the ratio of the gradients of its "
                "weights and its bias, in closed form (attack first-layer)"
            )
        found = self.circuit
        if found is not None and found.reveals == "values and a known mixture's gradient":
            yield (
                "the classical layer behind the circuit tells its measured values and its residuals in every update of one "
                "record: heads with many outputs leak in one round what a single expectation value spreads over several"
            )
        if found is not None and found.algebra == found.largest:
            yield (
                "the algebra has its full dimension: that makes the snapshot of an attacker who does not know the encoder "
                "long, and protects against nobody who knows it or matches gradients"
            )


def circuit_of(model: Model) -> Circuit | None:
    """The circuit whose gradients are in a model's gradient; None where the model shows none."""
    if isinstance(model, (Vqc, Hybrid)):
        return model.circuit
    if model.name != "qnode":
        return None
    from qflsec.models import QNodeModel  # what reads users' circuits is imported where there is one

    return model.circuit if isinstance(model, QNodeModel) else None


def certify(
    model: Model,
    *,
    records: int = 1,
    seed: int = 0,
    feature_range: tuple[float, float] = (0.0, math.pi),
    max_rounds: int = MAX_ROUNDS,
) -> Certificate:
    """The certificate of a model.

    Rounds are taken at independent random parameters. Models of consecutive rounds of an honest run differ less, so
    that their systems have the same ranks and larger condition numbers.

    Args:
        model: The model.
        records: Records in one gradient.
        seed: Of the parameters and records that ranks are taken at.
        feature_range: Where features lie.
        max_rounds: The most rounds that are tried.

    Raises:
        ConfigError: No records, or no rounds.

    Source:
        Heredge et al.: Prospects of privacy advantage in quantum machine learning, arXiv:2405.08801: recovery from the
        dynamical Lie algebra. The cap of a round, the fixed gates, the span of the encoder and residuals that are not
        known are derived in ``docs/inversion.md``.
    """
    for name, value in (("records", records), ("max_rounds", max_rounds)):
        if value < 1:
            raise ConfigError(f"{name!r} is too small", got=value, expected="at least 1")
    circuit, refusal = circuit_of(model), "the model shows no circuit that could be read"
    leak: CircuitLeak | None = None
    if circuit is not None and not circuit.n_weights:
        refusal = "the circuit has no weights, so that no gradient passes through it"
    elif circuit is not None:
        found = _circuit_leak(model, circuit, seed, feature_range, max_rounds)
        leak, refusal = (None, found) if isinstance(found, str) else (found, "")
    return Certificate(
        model=model.name,
        n_params=model.n_params,
        n_features=model.n_features,
        records=records,
        tangent=tangent_of(model, records=records, seed=seed, feature_range=feature_range),
        circuit=leak,
        refusal=refusal,
        first_layer=any(name == "before.0.bias" for name, _ in model.layout),
    )


def _circuit_leak(
    model: Model, circuit: Circuit, seed: int, feature_range: tuple[float, float], max_rounds: int
) -> CircuitLeak | str:
    structure = structure_of(circuit)
    if isinstance(structure, str):
        return structure
    reveals: Reveals = "one value's gradient"
    if isinstance(model, Hybrid):
        reveals = "values and a known mixture's gradient"
    elif len(circuit.observables) > 1:
        reveals = "a mixture's gradient"
    shown = Shown.of(structure, encoder=False)
    size = (1, structure.encoder.n_features)
    low, high = (-math.pi / 2, math.pi / 2) if isinstance(model, Hybrid) else feature_range
    generator = stream(seed, "leak", "record")
    record = low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)
    return CircuitLeak(
        n_qubits=circuit.n_qubits,
        algebra=shown.algebra.dimension,
        largest=4**circuit.n_qubits - 1,
        cap=shown.algebra.cap,
        reveals=reveals,
        unknowns=(
            _unknowns(model, shown, record, reveals, seed, max_rounds),
            _unknowns(
                model, Shown.of(structure, encoder=True), record, reveals, seed, max_rounds, encoder=True
            ),
        ),
    )


def _unknowns(
    model: Model,
    shown: Shown,
    record: Tensor,
    reveals: Reveals,
    seed: int,
    max_rounds: int,
    *,
    encoder: bool = False,
) -> Unknowns:
    values = len(shown.structure.observables) if reveals.startswith("values") else 0
    most = min(shown.algebra.cap, shown.structure.n_weights) + values
    at_least = math.ceil(shown.unknowns / most)
    if shown.unknowns > MAX_UNKNOWNS or at_least > max_rounds:
        return Unknowns(encoder_known=encoder, visible=shown.visible, count=shown.unknowns, at_least=at_least)
    record_unknowns = encoded_coordinates(shown.structure, shown.basis, record)[0]
    generator = stream(seed, "leak", "models")
    rows: list[Floats] = []
    ranks: list[int] = []
    known, alone, condition = None, None, math.nan
    while len(rows) < max_rounds and (known is None or alone is None):
        rows.append(_rows(model, shown, reveals, generator))
        rank, number = known_rank(rows)
        ranks.append(rank)
        if known is None and rank == shown.unknowns:
            known, condition = len(rows), number
        if known is not None and reveals == "a mixture's gradient":
            break
        if known is not None and (values or alone_rank(rows, record_unknowns) == 1):
            alone = len(rows)
    return Unknowns(
        encoder_known=encoder,
        visible=shown.visible,
        count=shown.unknowns,
        at_least=at_least,
        ranks=tuple(ranks),
        rounds_known=known,
        rounds_alone=alone,
        condition=condition,
    )


def _rows(model: Model, shown: Shown, reveals: Reveals, generator: torch.Generator) -> Floats:
    """What one round at a random model shows of the unknowns, up to residuals.

    Of a mixture, the mixture is random: residuals depend on the record. A head's own gradients tell residuals and
    measured values, so that those are rows of their own.
    """
    blocks = model.unflatten(model.initial(generator).double())
    values, derivatives = shown.structure.rows(_circuit_weights(model, blocks).numpy())
    derivatives, values = derivatives @ shown.basis.T, values @ shown.basis.T
    if reveals == "one value's gradient":
        found: Floats = derivatives[:, 0]
        return found
    residuals = torch.randn(model.n_classes, generator=generator, dtype=torch.float64)
    if reveals == "a mixture's gradient":
        mixture = torch.randn(values.shape[0], generator=generator, dtype=torch.float64).numpy()
        mixed: Floats = np.tensordot(derivatives, mixture, axes=(1, 0))
        return mixed
    mixture = ((residuals - residuals.mean()) @ blocks["after.0.weight"]).numpy()
    return np.concatenate([np.tensordot(derivatives, mixture, axes=(1, 0)), values])


def _circuit_weights(model: Model, blocks: dict[str, Tensor]) -> Tensor:
    if isinstance(model, Hybrid):
        return blocks["circuit"]
    return torch.cat([block.flatten() for block in blocks.values()])
