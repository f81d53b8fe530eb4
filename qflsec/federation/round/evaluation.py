"""The curves of a batch of runs: test accuracy, test loss and training loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.base import stream
from qflsec.federation.round.lanes import LaneData
from qflsec.federation.round.opening import Readers
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.serving import ServingLayer
from qflsec.models import Model

__all__ = ["Curves"]


class Curves:
    """Evaluates the models of a batch, in the rounds that each run asks for.

    A run without test records has no test accuracy and no test loss, and that is no error.

    Args:
        model: The model.
        specs: The runs.
        lanes: Their data.
        rounds: The number of rounds.
        readers: Who reads which model.
        serving: How the stack answers with the last model; what comes before it is never served.
    """

    def __init__(
        self,
        model: Model,
        specs: Sequence[RunSpec],
        lanes: Sequence[LaneData],
        rounds: int,
        readers: Readers,
        serving: ServingLayer | None = None,
    ) -> None:
        self._readers, self._lanes = readers, lanes
        self._model, self._last, self._serving = model, rounds - 1, serving
        self._seeds = [spec.seed for spec in specs]
        self._every = {lane for lane, spec in enumerate(specs) if spec.evaluate == "every-round"}
        self._never = {lane for lane, spec in enumerate(specs) if spec.evaluate == "never"}
        self._sets = [lane.dataset.take(lane.dataset.test_idx) for lane in lanes]
        self.accuracy: list[list[float]] = [[] for _ in specs]
        self.worst_accuracy: list[list[float]] = [[] for _ in specs]
        self.visits: list[list[tuple[int, float]]] = [[] for _ in specs]
        self.loss: list[list[float]] = [[] for _ in specs]
        self.train_loss: list[list[float]] = [[] for _ in specs]

    def note(
        self, round_index: int, models: torch.Tensor, losses: torch.Tensor, honest: torch.Tensor
    ) -> None:
        """Take down one round.

        Args:
            round_index: The round.
            models: The models after it, one of each node of a run or one of each client.
            losses: Each client's mean training loss before it.
            honest: Whose losses count.

        Shapes:
            models: ``(lane, m, P)``; losses, honest: ``(lane, client)``
        """
        weight = honest.double()
        train = (losses.double() * weight).sum(dim=-1) / weight.sum(dim=-1).clamp(min=1.0)
        for curve, value in zip(self.train_loss, train.tolist(), strict=True):
            curve.append(value)
        groups: dict[int, list[int]] = {}
        for lane, (_, labels) in enumerate(self._sets):
            if len(labels) and lane not in self._never and (lane in self._every or round_index == self._last):
                groups.setdefault(len(labels), []).append(lane)
        for lanes in groups.values():
            self._evaluate(lanes, models[lanes], served=round_index == self._last)

    def visit(self, round_index: int, client: int, models: torch.Tensor, trained: torch.Tensor) -> None:
        """Take down one visit of the last round, before :meth:`note` takes down the round.

        Args:
            round_index: The round.
            client: Whom the model visited.
            models: The models after it, one or one of each client.
            trained: In which runs.

        Shapes:
            models: ``(lane, m, P)``; trained: ``(lane,)``
        """
        if round_index != self._last:
            return
        place = [client] if models.shape[1] > 1 else [0]
        for lane in torch.nonzero(trained).flatten().tolist():
            if len(self._sets[lane][1]) and lane not in self._never:
                right, _ = self._right([lane], models[[lane]][:, place], served=False)
                self.visits[lane].append((client, float(right)))

    def _evaluate(self, lanes: Sequence[int], models: torch.Tensor, *, served: bool) -> None:
        """Mean accuracy and loss over the readers of models, and the accuracy of the worst off."""
        right, loss = self._right(lanes, models, served=served)
        for row, lane in enumerate(lanes):
            read = right[self._readers.models[lane], row]
            self.accuracy[lane].append(float(read.mean()))
            handed = [
                right for client, right in self.visits[lane] if client not in self._readers.unread[lane]
            ]
            self.worst_accuracy[lane].append(min(handed, default=float(read.min())))
            self.loss[lane].append(float(loss[self._readers.models[lane], row].mean()))

    def _right(
        self, lanes: Sequence[int], models: torch.Tensor, *, served: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Accuracy and loss of each model.

        Shapes:
            models: ``(lane, m, P)``; returns: ``(m, lane)`` twice
        """
        features = torch.stack([self._sets[lane][0] for lane in lanes])
        labels = torch.stack([self._sets[lane][1] for lane in lanes])
        correct, losses = [], []
        with torch.no_grad():
            for params in models.unbind(dim=1):
                logits = self._model(params[:, None, :], features)
                answers = logits.argmax(dim=-1)
                if served and self._serving is not None:
                    answers = self._served(self._serving, lanes, params, features)
                correct.append((answers == labels).double().mean(dim=-1))
                losses.append(self._model.loss.per_sample(logits, labels).double().mean(dim=-1))
        return torch.stack(correct), torch.stack(losses)

    def _served(
        self, serving: ServingLayer, lanes: Sequence[int], params: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """The answers of each lane, with a stream of its own."""
        return torch.stack(
            [
                serving.serve(
                    self._model,
                    serving.ready(self._model, params[row], self._lanes[lane].dataset),
                    features[row],
                    stream(self._seeds[lane], "serving"),
                )
                for row, lane in enumerate(lanes)
            ]
        )
