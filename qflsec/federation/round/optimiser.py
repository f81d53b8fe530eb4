"""The clients' optimisers: SGD, SGD with momentum and Adam, with the pull of FedProx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from qflsec.federation.config import FederationConfig
from qflsec.federation.sharing import Sharing

__all__ = ["BETA1", "BETA2", "EPSILON", "Optimiser", "OptimiserState"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimiserState:
    """What the optimisers of some clients of some runs hold.

    It is a function of everything that the client trained on, and stays with the client.

    Attributes:
        steps: The steps that each has made.
        moments: Running means: none of plain SGD, the momentum buffer, or Adam's two.

    Shapes:
        steps: ``(lane, client)``, integers; moments: ``(lane, client, P)`` each
    """

    steps: torch.Tensor
    moments: tuple[torch.Tensor, ...]

    @classmethod
    def fresh(cls, config: FederationConfig, params: torch.Tensor) -> OptimiserState:
        """Optimisers that have made no step.

        Shapes:
            params: ``(lane, client, P)``
        """
        count = 2 if config.optimizer == "adam" else int(config.momentum > 0)
        return cls(
            steps=torch.zeros(params.shape[:2], dtype=torch.long, device=params.device),
            moments=tuple(torch.zeros_like(params) for _ in range(count)),
        )

    def at(self, lanes: Sequence[int], clients: Sequence[int]) -> OptimiserState:
        """Those of some clients of some lanes."""
        place = _place(lanes, clients)
        return OptimiserState(steps=self.steps[place], moments=tuple(m[place] for m in self.moments))

    def where(self, chosen: torch.Tensor, other: OptimiserState) -> OptimiserState:
        """These where ``chosen``, the others elsewhere.

        Shapes:
            chosen: ``(lane, client)``, boolean
        """
        pairs = zip(self.moments, other.moments, strict=True)
        return OptimiserState(
            steps=torch.where(chosen, self.steps, other.steps),
            moments=tuple(torch.where(chosen[..., None], mine, its) for mine, its in pairs),
        )

    def put(self, lanes: Sequence[int], clients: Sequence[int], part: OptimiserState) -> OptimiserState:
        """All of these with those of some clients of some lanes replaced."""
        place = _place(lanes, clients)

        def replaced(whole: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
            whole = whole.clone()
            whole[place] = some
            return whole

        pairs = zip(self.moments, part.moments, strict=True)
        return OptimiserState(
            steps=replaced(self.steps, part.steps),
            moments=tuple(replaced(whole, some) for whole, some in pairs),
        )


def _place(lanes: Sequence[int], clients: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(list(lanes))[:, None], torch.tensor(list(clients))[None, :]


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """The update rule of a round.

    A step takes the gradient as it leaves the layers inside training: momentum, Adam and the pull of FedProx are
    functions of it and of models, so that what protects it protects them (post-processing).

    Attributes:
        config: Which rule.
        sharing: What clients share: FedProx pulls nothing else.
        round: The round, which sets the learning rate.

    Source:
        ``torch.optim.SGD`` (without dampening, Nesterov or weight decay) and ``torch.optim.Adam`` with its default
        betas and epsilon. FedProx: Li et al., Federated optimization in heterogeneous networks, MLSys 2020, equation 2:
        the client minimises F(w) + proximal / 2 |w - w_received|^2.
    """

    config: FederationConfig
    sharing: Sharing
    round: int

    def step(
        self,
        state: OptimiserState,
        params: torch.Tensor,
        gradient: torch.Tensor,
        received: torch.Tensor,
        active: torch.Tensor,
        factors: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, OptimiserState]:
        """The models and the states after a step; those of clients that make none stay as they are.

        Args:
            state: The states before.
            params: The models before.
            gradient: The gradients.
            received: The models at the start of the round.
            active: Who makes this step.
            factors: What each client multiplies its learning rate by; 1 by default.

        Shapes:
            params, gradient, received: ``(lane, client, P)``; active: ``(lane, client)``, boolean; factors: ``(client,)``
        """
        change, moved = self._change(state, self._pulled(gradient, params, received))
        if factors is not None:
            change = factors[:, None] * change
        return torch.where(active[..., None], params - change, params), moved.where(active, state)

    def _pulled(self, gradient: torch.Tensor, params: torch.Tensor, received: torch.Tensor) -> torch.Tensor:
        """The gradient of the stated objective: with the pull towards the received model."""
        if not self.config.proximal:
            return gradient
        pull = self.config.proximal * (params - received)
        if self.sharing.places is None:
            return gradient + pull
        # a part that the client keeps to itself was not received from anybody
        pulled = gradient.clone()
        pulled[..., list(self.sharing.places)] += self.sharing.shared(pull)
        return pulled

    def _change(self, state: OptimiserState, gradient: torch.Tensor) -> tuple[torch.Tensor, OptimiserState]:
        """What to subtract from the parameters, and the next state."""
        rate, steps = self.config.rate(self.round), state.steps + 1
        if self.config.optimizer == "adam":
            first = BETA1 * state.moments[0] + (1 - BETA1) * gradient
            second = BETA2 * state.moments[1] + (1 - BETA2) * gradient**2
            upper, lower = (
                first / _correction(BETA1, steps, first),
                second / _correction(BETA2, steps, second),
            )
            change = rate * upper / (lower.sqrt() + EPSILON)
            return change, OptimiserState(steps=steps, moments=(first, second))
        if self.config.momentum:
            buffer = self.config.momentum * state.moments[0] + gradient
            return rate * buffer, OptimiserState(steps=steps, moments=(buffer,))
        return rate * gradient, OptimiserState(steps=steps, moments=())


def _correction(beta: float, steps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Adam's correction of its bias, by each client's own number of steps; by Python's powers, which know no lanes."""
    rows = [[1 - beta**count for count in row] for row in steps.tolist()]
    return torch.tensor(rows, dtype=torch.float64).to(like)[..., None]
