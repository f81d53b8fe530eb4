"""Deep leakage from gradients: records from one update."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qflsec.attacks.base import Inference, InversionChallenge, InversionClaim
from qflsec.attacks.inversion.matching import Match, Matching
from qflsec.attacks.inversion.observation import Observation, missing_observation, observe, observe_rounds
from qflsec.attacks.inversion.reconstruction import Budget, Prior, label_hypotheses, reconstruct
from qflsec.attacks.inversion.snapshot import no_snapshot, snapshot_points
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.models import Execution
from qflsec.threat import View

__all__ = ["DeepLeakage"]


@register("attack", "dlg")
@dataclass(frozen=True, kw_only=True)
class DeepLeakage(Inference):
    """Find records whose update equals the observed one.

    Many random starts are compared by their objective; the best are refined by Levenberg-Marquardt, which
    for the few unknowns of such records needs some ten steps where L-BFGS needs hundreds. The labels are
    inferred: the starts are spread over the possible label multisets, and the objective decides. An update
    that no records explain is noisy; then the prior keeps what it does not determine near a guess.

    The attack reads one item: the one that mixes the target with the fewest other clients, of these the
    earliest. Of a sum over several clients it still seeks the target's records alone; what the others
    added is noise to it, which its objective shows. It models full-batch gradient descent at the client, with what the
    pipeline says of local steps, learning rates, momentum and FedProx.

    The plain attack of the paper is ``match="euclidean", prior=False``. It is the weaker one: a client that
    clips its update misleads it, and a little noise throws it further off than a guess would be, which
    neither clipping nor such noise deserves credit for.

    Args:
        restarts: The starts that are refined.
        screened: The random starts that they are chosen from.
        iterations: The most steps of a refinement.
        match: ``"cosine"`` compares directions, ``"euclidean"`` the updates themselves.
        prior: Whether the spread of the auxiliary records (or of the feature range, where the adversary has
            none) is used on noisy updates.
        max_hypotheses: The most label multisets; where there are more, a random choice.
        dtype: Of the attacker's simulation.
        snapshot: Whether the linear system of all rounds gives further starts, where it can be solved.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, algorithm 1. iDLG (Zhao, Mopuri, Bilen,
        2020) reads the label off the last bias; a circuit has none, so labels are enumerated. Cosine: Geiping
        et al., NeurIPS 2020. Prior: Balunovic et al., ICLR 2022.
    """

    card = AttackCard(
        name="dlg",
        idea="Find the records whose gradient is the observed update.",
        source=Source(paper="Zhu, Liu, Han, NeurIPS 2019, arXiv:1906.08935", year=2019, where="algorithm 1"),
        family="inversion",
        goal="confidentiality",
        needs=(
            "an update of the target, or a sum that contains it",
            "the model that the update starts from",
            "the model's architecture",
        ),
    )
    challenge_type = InversionChallenge
    restarts: int = 24
    screened: int = 256
    iterations: int = 30
    match: Match = "cosine"
    prior: bool = True
    max_hypotheses: int = 16
    dtype: str = "complex128"
    snapshot: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        for name in ("restarts", "screened", "iterations", "max_hypotheses"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name!r} is too small", got=getattr(self, name), expected="at least 1")
        if self.restarts > self.screened:
            raise ConfigError(
                "'restarts' are chosen from 'screened' starts",
                got=f"{self.restarts} of {self.screened}",
                expected="restarts <= screened",
            )
        if self.match not in {"euclidean", "cosine"}:
            raise ConfigError("unknown 'match'", got=repr(self.match), expected="'euclidean' or 'cosine'")

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, an update that contains the target, or the model that it starts from."""
        return missing_architecture(view) or missing_observation(view, challenge.target)

    def observation(self, view: View, challenge: InversionChallenge) -> Observation:
        """The update to explain: the item that mixes the target with the fewest others."""
        return observe(view, challenge.target)

    def run(self, view: View, challenge: InversionChallenge) -> InversionClaim:
        """The records of the best start."""
        seen, training = self.observation(view, challenge), challenge.training
        model, rate = view.granted.model, training.rate(seen.round)
        matching = Matching(
            model=model,
            params=seen.params.double(),
            observed=-seen.update.double() / rate,
            learning_rate=rate,
            local_steps=training.uses,
            momentum=training.momentum,
            proximal=training.proximal,
            match=self.match,
            execution=Execution(dtype=self.dtype),
        )
        generator = challenge.generator()
        hypotheses = label_hypotheses(
            challenge.n_records, model.n_classes, most=self.max_hypotheses, generator=generator
        )
        prior = Prior.of(view.granted.auxiliary, challenge.feature_range, challenge.n_features)
        found = reconstruct(
            matching,
            hypotheses,
            feature_range=challenge.feature_range,
            generator=generator,
            budget=Budget(screened=self.screened, restarts=self.restarts, iterations=self.iterations),
            prior=prior if self.prior else None,
            # Of k equal and independent shares, one is the target's.
            least_noise=1 - 1 / seen.size,
            warm=self._snapshot(view, challenge) if self.snapshot else None,
        )
        return InversionClaim(features=found.features.float(), labels=found.labels, objective=found.objective)

    def _snapshot(self, view: View, challenge: InversionChallenge) -> Tensor | None:
        """Starts from the linear system of all rounds, where that can be solved."""
        if challenge.n_records != 1 or no_snapshot(view.granted.model, challenge.training) is not None:
            return None
        return snapshot_points(
            view.granted.model,
            observe_rounds(view, challenge.target),
            feature_range=challenge.feature_range,
            generator=challenge.generator("snapshot"),
        )[:, None, :]
