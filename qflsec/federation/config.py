"""How clients and server train together, as a frozen value that can be written down as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from qflsec.base import ConfigError, finite
from qflsec.federation.natural_gradient import NaturalGradient
from qflsec.federation.own_models import OwnModels
from qflsec.federation.schedule import CONSTANT, Schedule
from qflsec.federation.sporadic import Sporadic

__all__ = ["FederationConfig"]

_WORDS = {
    "optimizer": ("sgd", "adam"),
    "sampling": ("fixed", "poisson"),
    "client_sampling": ("fixed", "poisson"),
    "optimizer_state": ("round", "run"),
}


@finite
@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """How clients and server train together.

    Attributes:
        n_clients: The number of clients.
        rounds: The number of rounds.
        local_steps: Optimiser steps of a client in one round.
        epochs: In place of a number of steps: how often a client goes through all its records in one round, each
            time in another order, in batches of ``batch_size``, the last of which may be smaller. Clients with more
            records make more steps.
        batch_size: Records of one step; None takes all records of the client.
        sampling: ``"fixed"`` draws exactly ``batch_size`` distinct records anew for each step; ``"poisson"`` takes
            each record independently with probability ``batch_size / n``, which DP accounting assumes.
        optimizer: The client's optimiser.
        momentum: Of plain SGD; 0 for none.
        optimizer_state: How long momentum buffers and Adam's moments live: one ``"round"``, or the ``"run"``, from
            one round in which the client takes part to the next. They stay with the client.
        learning_rate: Of the client's optimiser.
        natural_gradient: Step along the gradient preconditioned by the Fubini-Study metric of the records' states; None for
            the gradient itself.
        sporadic: Step less on a noisy device; None for the same rate everywhere.
        own_models: A second model of each client, trained beside the shared one and pulled towards it; None for none.
        schedule: How the learning rate depends on the round: constant, in steps, or by a cosine.
        proximal: FedProx's mu: each step adds ``proximal * (w - w_received)`` to the gradient of the shared
            parameters; 0 for FedAvg.
        server_learning_rate: The factor on the aggregated update.
        participation: The fraction of clients that take part in a round, at least one.
        client_sampling: ``"fixed"`` draws exactly that fraction; ``"poisson"`` draws each client independently
            with that probability, so that a round may have any number of clients, even none.
        declared_corrupted: How many corrupted clients the server reckons with, f.

    Raises:
        ConfigError: A value is out of range.
    """

    n_clients: int = 10
    rounds: int = 15
    local_steps: int = 1
    epochs: int | None = None
    batch_size: int | None = None
    sampling: Literal["fixed", "poisson"] = "fixed"
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    optimizer_state: Literal["round", "run"] = "round"
    learning_rate: float = 0.1
    natural_gradient: NaturalGradient | None = None
    sporadic: Sporadic | None = None
    own_models: OwnModels | None = None
    schedule: Schedule = CONSTANT
    proximal: float = 0.0
    server_learning_rate: float = 1.0
    participation: float = 1.0
    client_sampling: Literal["fixed", "poisson"] = "fixed"
    declared_corrupted: int = 2

    def __post_init__(self) -> None:
        for name, low in (("n_clients", 1), ("rounds", 1), ("local_steps", 1)):
            value = getattr(self, name)
            if value < low:
                raise ConfigError(f"{name!r} is too small", got=value, expected=f"at least {low}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(
                "'batch_size' is too small", got=self.batch_size, expected="at least 1, or none"
            )
        for name in ("learning_rate", "server_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name!r} must be positive", got=getattr(self, name))
        if not 0 < self.participation <= 1:
            raise ConfigError("'participation' is a fraction", got=self.participation, expected="in (0, 1]")
        for name, known in _WORDS.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"unknown {name!r}", got=repr(value), expected=" or ".join(map(repr, known))
                )
        self._check_epochs()
        self._check_optimiser()
        self._check_own()

    def _check_epochs(self) -> None:
        if self.epochs is None:
            return
        if self.epochs < 1:
            raise ConfigError("'epochs' is too small", got=self.epochs, expected="at least 1, or none")
        if self.local_steps != 1:
            raise ConfigError(
                "'epochs' and 'local_steps' exclude each other",
                got=f"epochs={self.epochs}, local_steps={self.local_steps}",
                fix="leave out 'local_steps': the records and 'batch_size' set the number of steps",
            )
        if self.sampling == "poisson":
            raise ConfigError(
                "'epochs' visit every record once, and Poisson sampling does not",
                got=f"epochs={self.epochs}, sampling='poisson'",
                fix="leave out 'sampling', or set 'local_steps' in place of 'epochs'",
            )

    def _check_optimiser(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ConfigError("'momentum' is out of range", got=self.momentum, expected="from 0 to below 1")
        if self.momentum and self.optimizer != "sgd":
            raise ConfigError(
                "'momentum' is a parameter of 'sgd'",
                got=f"optimizer={self.optimizer!r}, momentum={self.momentum}",
                fix="leave out 'momentum': Adam has moments of its own",
            )
        if self.optimizer_state == "run" and self.optimizer == "sgd" and not self.momentum:
            raise ConfigError(
                "plain SGD has no state that could live for a run",
                got="optimizer_state='run', optimizer='sgd', momentum=0",
                fix="set 'momentum' or optimizer = 'adam', or leave out 'optimizer_state'",
            )
        if self.natural_gradient is not None and self.optimizer != "sgd":
            raise ConfigError(
                "'natural_gradient' is an option of 'sgd'",
                got=f"optimizer={self.optimizer!r}",
                fix="leave out one of them: Adam rescales every weight by its own",
            )
        if self.uploads_metric and (self.uses != 1 or self.batch_size is not None or self.momentum):
            raise ConfigError(
                "a server can precondition one plain step on all records of a client",
                got=f"local_steps={self.local_steps}, epochs={self.epochs}, batch_size={self.batch_size}, "
                f"momentum={self.momentum}",
                fix="leave these out, or solved_by = 'server' of 'natural_gradient'",
            )
        if self.uploads_metric and self.sporadic is not None:
            raise ConfigError(
                "a server that averages metrics does not know by what factor a client took its step",
                fix="leave out 'sporadic', or solved_by = 'server' of 'natural_gradient'",
            )
        if self.sporadic is not None and self.optimizer != "sgd":
            raise ConfigError(
                "'sporadic' is an option of 'sgd'",
                got=f"optimizer={self.optimizer!r}",
                fix="leave out one of them: Adam undoes a factor on the gradient",
            )
        if self.proximal < 0:
            raise ConfigError("'proximal' is negative", got=self.proximal, expected="0 or more")
        if self.schedule.eta_min is not None and self.schedule.eta_min >= self.learning_rate:
            raise ConfigError(
                "'schedule' does not fall",
                got=f"eta_min={self.schedule.eta_min}",
                expected=f"below the learning rate, {self.learning_rate}",
            )

    def _check_own(self) -> None:
        if self.own_models is not None and (
            self.optimizer != "sgd" or self.momentum or self.natural_gradient or self.sporadic
        ):
            raise ConfigError(
                "'own_models' are trained by plain SGD",
                got=f"optimizer={self.optimizer!r}, momentum={self.momentum}",
                fix="leave out 'momentum', 'natural_gradient' and 'sporadic', or 'own_models'",
            )

    def to_config(self) -> dict[str, object]:
        """Every parameter, JSON-able; options that change nothing where they are not set are left out then."""
        config = asdict(self)
        if self.natural_gradient is not None:
            config["natural_gradient"] = self.natural_gradient.to_config()
        for name in ("natural_gradient", "sporadic", "own_models"):
            if config[name] is None:
                del config[name]
        return config

    def check_executions(self, clients: Iterable[int]) -> None:
        """Refuse executions of clients that there are not.

        Args:
            clients: The clients with executions of their own.

        Raises:
            ConfigError: One is none.
        """
        strangers = sorted(index for index in clients if not 0 <= index < self.n_clients)
        if strangers:
            raise ConfigError(
                "an execution is set for a client that does not exist",
                got=strangers,
                expected=f"indices below {self.n_clients}",
            )

    @property
    def uploads_metric(self) -> bool:
        """Whether clients send their metric, and the server preconditions."""
        return self.natural_gradient is not None and self.natural_gradient.solved_by == "server"

    @property
    def preconditioned(self) -> NaturalGradient | None:
        """The natural gradient that clients step along themselves; None where they take plain steps."""
        return None if self.uploads_metric else self.natural_gradient

    @property
    def n_participants(self) -> int:
        """How many clients take part in a round; with Poisson sampling, how many do on average."""
        return max(1, round(self.participation * self.n_clients))

    @property
    def batches(self) -> Literal["full", "fixed", "poisson", "shuffled"]:
        """How batches are drawn."""
        if self.batch_size is None:
            return "full"
        return self.sampling if self.epochs is None else "shuffled"

    @property
    def uses(self) -> int:
        """In how many steps of a round a record can be: in all of them, or in one of every epoch."""
        return self.local_steps if self.epochs is None else self.epochs

    @property
    def keeps_state(self) -> bool:
        """Whether a client's update depends on what it trained on in earlier rounds."""
        return self.optimizer_state == "run"

    def steps(self, count: int) -> int:
        """The local steps of a client with so many records in one round."""
        if self.epochs is None:
            return self.local_steps
        return self.epochs * (1 if self.batch_size is None else math.ceil(count / self.batch_size))

    def rate(self, round_index: int) -> float:
        """The clients' learning rate in a round."""
        return self.schedule.rate(self.learning_rate, round_index, self.rounds)

    @property
    def who(self) -> Literal["all", "fixed", "poisson"]:
        """How the clients of a round are drawn."""
        if self.client_sampling == "poisson":
            return "all" if self.participation == 1 else "poisson"
        return "all" if self.n_participants == self.n_clients else "fixed"
