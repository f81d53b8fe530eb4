"""Deep leakage from gradients: records from the updates of one client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from qflsec.attacks.challenges import InversionChallenge
from qflsec.attacks.inversion.gradient_matching import GradientMatching
from qflsec.attacks.inversion.matching import Match
from qflsec.attacks.inversion.observation import Observation, missing_observation, observe, observe_rounds
from qflsec.attacks.inversion.snapshot import no_snapshot, snapshot_points
from qflsec.attacks.inversion.solvers import Solver
from qflsec.attacks.needs import missing_architecture
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.threat import View

__all__ = ["DeepLeakage", "InvertingGradients"]


@register("attack", "dlg")
@dataclass(frozen=True, kw_only=True)
class DeepLeakage(GradientMatching):
    """Find records whose update equals the observed one.

    The attack reads one item of each round: the one that mixes the target with the fewest other clients, of rounds the
    earliest. Of a sum over several clients it still seeks the target's records alone; what the others
    added is noise to it, which its objective shows (``cohort`` seeks everybody's records). It models the client's
    training as the pipeline says it: batches, local steps, learning rates, momentum, Adam and FedProx. An optimiser that keeps its
    state over rounds is modelled in the first round in which the target is seen.

    The attack of the paper is ``solver="lbfgs", match="euclidean", labels="joint", prior=False``. It is the weaker one: a
    client that clips its update misleads it, and a little noise throws it further off than a guess would be, which
    neither clipping nor such noise deserves credit for.

    Args:
        rounds: How many rounds are explained together, where the client trains on the same records.
        snapshot: Whether the linear system of all rounds gives further starts, where it can be solved.

    Raises:
        ConfigError: A parameter is out of range.

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, algorithm 1. iDLG (Zhao, Mopuri, Bilen,
        2020) for a last bias. Cosine: Geiping et al., NeurIPS 2020. Prior: Balunovic et al., ICLR 2022.
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
    rounds: int = 1
    snapshot: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        super().__post_init__()
        if self.rounds < 1:
            raise ConfigError("'rounds' is too small", got=self.rounds, expected="at least 1")

    def missing(self, view: View, challenge: InversionChallenge) -> str | None:
        """The architecture, an update that contains the target, or the model that it starts from."""
        return missing_architecture(view) or missing_observation(
            view, challenge.target, first=challenge.training.keeps_state
        )

    def observations(self, view: View, challenge: InversionChallenge) -> Sequence[Observation]:
        """The items that mix the target with the fewest others."""
        if self.rounds == 1 or challenge.training.keeps_state:
            return [observe(view, challenge.target)]
        return observe_rounds(view, challenge.target)[: self.rounds]

    def warm(self, view: View, challenge: InversionChallenge) -> Tensor | None:
        """Starts from the linear system of all rounds, where that is wanted and can be solved."""
        solvable = no_snapshot(view.granted.model, challenge.training) is None
        if not self.snapshot or challenge.n_records != 1 or not solvable:
            return None
        return snapshot_points(
            view.granted.model,
            observe_rounds(view, challenge.target),
            feature_range=challenge.feature_range,
            generator=challenge.generator("snapshot"),
        )[:, None, :]


@register("attack", "inverting-gradients")
@dataclass(frozen=True, kw_only=True)
class InvertingGradients(DeepLeakage):
    """``dlg`` as Geiping et al. do it: directions are compared, and Adam follows the signs of the slope.

    Their total variation is a prior for images and has no place here.

    Source:
        Geiping, Bauermeister, Dröge, Moeller: Inverting gradients, NeurIPS 2020, equation 4.
    """

    card = AttackCard(
        name="inverting-gradients",
        idea="Turn guessed records until their update points where the observed one does, by Adam on signs.",
        source=Source(
            paper="Geiping et al.: Inverting gradients, NeurIPS 2020, arXiv:2003.14053",
            year=2020,
            where="equation 4, without total variation",
        ),
        family="inversion",
        goal="confidentiality",
        needs=DeepLeakage.card.needs,
    )
    solver: Solver = "signed-adam"
    match: Match = "cosine"
    prior: bool = False
