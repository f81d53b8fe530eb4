"""Runs: what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from qflsec.accounting import (
    CircuitUse,
    LedgerContext,
    LedgerRow,
    Observer,
    ObserverAccount,
    People,
    Preparation,
    Seeds,
    Training,
    observer_account,
    run_rows,
)
from qflsec.accounting.account import ledger
from qflsec.accounting.exposure import exposure
from qflsec.base import ConfigError, stream
from qflsec.data import Dataset, Holdings, client_holdings, kinds_of_people
from qflsec.federation.config import FederationConfig
from qflsec.federation.executions import executed
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.run_spec import RunSpec
from qflsec.federation.stack import Stack
from qflsec.federation.updates import Dropped, Fault
from qflsec.models import Execution, Model
from qflsec.threat import Records, ThreatModel, Transcript, View

__all__ = ["RunResult"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run left behind.

    Attributes:
        spec: What was asked for.
        pipeline: The pipeline.
        stack: The stack.
        outcome: ``"completed"``; ``"aborted: "`` and the reason, where a protocol stopped; ``"lost: "``, where a
            corrupted party had deviated before; ``"failed: "`` and the message, where an adversary or an update was
            faulty.
        caused_by: Who caused the abort of a protocol, as its parties could prove it, such as ``"client:3"``; None where
            it cannot be known, or no protocol stopped.
        traceback: Of a failure; empty otherwise.
        initial: The first model.
        params: The final model of the first reader, or the part of it that clients share; the shared model where they have others of
            their own.
        models: The final models: one of each node of the topology, or one of each client where clients keep a part or
            a model to themselves.
        readers: Of several models, those that the honest clients read, one entry for each of them; of one, that.
        accuracy: Test accuracy after each round in which the run was evaluated, the mean over the readers of several
            models; empty without test records.
        worst_accuracy: The same of the reader that is worst off; after the last round of a ring, of the worst model
            that anybody was handed in it, where clients audit by an honest one.
        visits: Of a ring, the clients that the model visited in the last round, in order, each with the test accuracy
            of what it handed on; empty without test records.
        loss: Test loss after each of these rounds.
        train_loss: Mean training loss of the honest clients in each round.
        norms: The L2 norm of the update that each client released in each round: after the voluntary shape layers, after
            a corrupted client replaced it, and before any protocol seals it or adds noise to it. NaN where a client
            took no part or sent no update. It is what happened, not what anybody saw: no view holds it, and a server
            that opens sums alone never learns it.
        dataset: The run's data with its splits.
        clients: The record indices of each client.
        transcript: The transcript of the batch that the run was part of.
        lane: The run's place in that batch.
        costs: Costs by name, the unit at the end of the name.
        seeded_secrets: Whether keys were made from the seed.
        delegations: For each client, what its delegations to a quantum server came to.
        memory: What the run's adversary kept; None where it keeps nothing.
        dropped: Clients that took part in a round that had a result, and whose update did not count.
        faults: Lies that were proved, and rounds that were lost.
        trace: The first model and that after every round; empty where the run did not ask for it.

    Shapes:
        initial: ``(P,)``; params: ``(S,)``; models: ``(m, P)``; norms: ``(round, client)``; trace: ``(round + 1, S)``
    """

    spec: RunSpec
    pipeline: Pipeline
    stack: Stack
    outcome: str
    caused_by: str | None
    traceback: str
    initial: torch.Tensor
    params: torch.Tensor
    models: torch.Tensor
    accuracy: tuple[float, ...]
    worst_accuracy: tuple[float, ...]
    readers: tuple[int, ...]
    visits: tuple[tuple[int, float], ...]
    loss: tuple[float, ...]
    train_loss: tuple[float, ...]
    norms: torch.Tensor = field(repr=False)
    dataset: Dataset
    clients: tuple[torch.Tensor, ...]
    transcript: Transcript = field(repr=False)
    lane: int
    costs: Mapping[str, float]
    seeded_secrets: bool
    delegations: Mapping[int, Sequence[object]] = field(default_factory=dict)
    memory: object = field(default=None, repr=False)
    dropped: tuple[Dropped, ...] = ()
    faults: tuple[Fault, ...] = ()
    trace: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0), repr=False)

    @property
    def training(self) -> FederationConfig:
        """How the clients trained together."""
        return self.pipeline.federation

    @property
    def executions(self) -> tuple[Execution, ...]:
        """How each client executed the model."""
        used = executed(self.pipeline, self.stack.executions)
        return tuple(used.execution_of(index) for index in range(self.training.n_clients))

    @property
    def participants(self) -> Mapping[int, frozenset[int]]:
        """For each round, the clients whose updates were aggregated."""
        return self.transcript.facts[self.lane].participants

    @property
    def angle_features(self) -> bool:
        """Whether the model has the period 2 pi in every feature."""
        return self.pipeline.model.angle_features

    @property
    def holdings(self) -> Holdings | None:
        """Which blocks of features each client holds; None where everybody holds everything."""
        return client_holdings(self.dataset, self.clients)

    @property
    def feature_range(self) -> tuple[float, float]:
        """Where features lie."""
        return self.pipeline.data.feature_range

    def predict(self, features: torch.Tensor, *, model: Model | None = None) -> torch.Tensor:
        """The class that the final model gives to each record, by exact expectation values, as the stack serves it.

        Of several models it is that of the first reader.

        Args:
            features: The records.
            model: What is executed with the final parameters in place of the pipeline's model, such as one with a
                tampered circuit.

        Shapes:
            features: ``(n, F)``; returns: ``(n,)``

        Raises:
            ConfigError: Every client has a model of its own.
        """
        if self.pipeline.kept:
            raise ConfigError(
                "there is no one model that could answer",
                got=f"{len(self.models)} models, of clients that keep {self.pipeline.kept}",
                fix="evaluate the rows of 'models'",
            )
        return self.answers(self.readers[0], features, model=model)

    def answers(self, place: int, features: torch.Tensor, *, model: Model | None = None) -> torch.Tensor:
        """The class that one of the final models gives to each record.

        Args:
            place: Which of :attr:`models`.
            features: The records.
            model: What is executed in place of the pipeline's model.

        Shapes:
            features: ``(n, F)``; returns: ``(n,)``
        """
        executed_model, serving, params = model or self.pipeline.model, self.stack.serving, self.models[place]
        with torch.no_grad():
            if serving is not None:
                served = serving.ready(self.pipeline.model, params, self.dataset)
                return serving.serve(executed_model, served, features, stream(self.spec.seed, "serving"))
            return executed_model(params, features).argmax(dim=-1)

    def model_of(self, index: int) -> torch.Tensor:
        """The final model that a client reads.

        Shapes:
            returns: ``(P,)``
        """
        if self.pipeline.kept:
            return self.models[index]
        return self.models[self.pipeline.topology.reads(self.training.n_clients)[index]]

    def view(self, threat: ThreatModel) -> View:
        """What the coalition of ``threat`` holds of this run; its adversary's memory too, if it is that one's."""
        threat.check(self.pipeline.parties)
        seen = self.transcript.seen_by(threat, self.lane)
        return replace(seen, memory=self.memory) if threat == self.spec.threat else seen

    def records(self, split: str) -> Records:
        """The records of a split: ``member``, ``nonmember``, ``auxiliary``, ``test`` or ``canary``."""
        index = getattr(self.dataset, f"{split}_idx")
        return Records(features=self.dataset.features[index], labels=self.dataset.labels[index])

    def client_records(self, index: int) -> Records:
        """The training records of one client."""
        rows = self.clients[index]
        return Records(features=self.dataset.features[rows], labels=self.dataset.labels[rows])

    def ledger(self, threat: ThreatModel, *, view: View | None = None) -> tuple[LedgerRow, ...]:
        """What one observer sees of this run, every guarantee against it, and what none covers.

        Args:
            threat: The observer.
            view: What it holds, where :meth:`view` has already been asked.
        """
        view = self.view(threat) if view is None else view
        context = self.context(view)
        layers = [row for layer in self.stack.layers for row in layer.ledger(context)]
        rows = [*layers, *run_rows(context)]
        if self.stack.delegation is not None and self.stack.delegation.reads(context):
            # whoever reads the circuits can compute updates, whatever is done to these afterwards
            rows = [row for row in rows if row.guarantee in {"integrity", "not covered"}]
        return ledger(context, rows, sees=exposure(view))

    def account(self, threat: ThreatModel) -> ObserverAccount:
        """What one observer learns of this run, by which proof and under which assumption."""
        return observer_account(threat.name, self.ledger(threat))

    def context(self, view: View) -> LedgerContext:
        """What the layers need to know to state their guarantees against the holder of a view."""
        delegated = self.stack.delegation is not None
        return LedgerContext(
            observer=Observer.of(view),
            training=self._trained,
            preparation=Preparation(
                fitted_on=self.dataset.fitted_on,
                on_training=self.pipeline.data.preprocessing == "training",
            ),
            seeds=Seeds(secrets=self.seeded_secrets),
            circuit_use=None if delegated else self._circuit_use(view.threat),
            delegations=self.delegations if delegated else None,
            traffic=self.stack.carried(self.pipeline.workload),
        )

    @cached_property
    def _trained(self) -> Training:
        """What was trained, for all who look."""
        config, facts = self.pipeline.federation, self.transcript.facts[self.lane]
        acting = self.spec.threat if self.spec.adversary is not None else None
        deviating = frozenset(() if acting is None else acting.clients)
        return Training(
            counts=tuple(len(rows) for rows in self.clients),
            rounds=config.rounds,
            n_params=self.pipeline.workload.n_params,
            local_steps=config.uses,
            batch_size=config.batch_size,
            sampling=config.batches,
            participation=config.participation,
            client_sampling=config.who,
            weights=facts.counts,
            additive=config.optimizer == "sgd"
            and not config.momentum
            and self.pipeline.topology.name == "star"
            and not self.pipeline.personal
            and self.pipeline.parts is None
            and self.pipeline.uploaded is None
            and self.stack.additive,
            grid=0.0 if self.stack.aggregation is None else self.stack.aggregation.grid,
            learning_rate=min(map(config.rate, range(config.rounds))),
            factors=executed(self.pipeline, self.stack.executions).factors,
            # whoever makes updates of its own is no party whose noise covers others, whoever looks
            members=tuple(members - deviating for members in facts.participants.values()),
            people=People(
                told_by=self.dataset.people_told_by,
                named=self.dataset.persons is not None,
                kinds=kinds_of_people(self.dataset, self.clients),
            ),
        )

    def _circuit_use(self, threat: ThreatModel) -> CircuitUse | None:
        circuit = getattr(self.pipeline.model, "circuit", None)
        if circuit is None:
            return None
        honest = executed(self.pipeline, self.stack.executions)
        clients = [i for i in range(self.pipeline.federation.n_clients) if i not in threat.clients]
        low, high = self.pipeline.data.feature_range
        return CircuitUse(
            circuit=circuit,
            only_measures=self.pipeline.model.only_measures,
            executions=tuple(dict.fromkeys(honest.execution_of(i) for i in clients)),
            span=high - low,
        )
