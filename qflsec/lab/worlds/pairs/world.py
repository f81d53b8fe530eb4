"""What kinds of matrix whose trials stand alone have in common."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from qflsec.base import AttackCard, ConfigError, find
from qflsec.base.failures import traceback_of
from qflsec.lab.grid.code import attack_part, digests_of, sources_of
from qflsec.lab.grid.files import load_user_plugins
from qflsec.lab.grid.ids import id_versions
from qflsec.lab.grid.results import plain
from qflsec.lab.grid.schema import at, check
from qflsec.lab.grid.units import TRIAL, Batch, Place, Plan, Row, Unit
from qflsec.lab.grid.work import sentence_of
from qflsec.lab.grid.world import World
from qflsec.lab.worlds.pairs.cells import PairResult
from qflsec.lab.worlds.pairs.reading import PairReading
from qflsec.lab.worlds.pairs.spec import HONEST, PairAttackTable, PairSpec

__all__ = ["PairAttack", "PairBatch", "PairWorld"]


class PairAttack(Protocol):
    """An attack of such a matrix."""

    @property
    def card(self) -> AttackCard:
        """Its card."""

    def to_config(self) -> Mapping[str, Any]:
        """Its name and every parameter."""


O = TypeVar("O")  # noqa: E741 - an outcome
A = TypeVar("A", bound=PairAttack)
S = TypeVar("S", bound=PairSpec)


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """One trial.

    Attributes:
        attack: The row's label.
        column: The column's name.
    """

    attack: str
    column: str


R = TypeVar("R", bound=PairResult[Any])


class PairWorld(World[S, PairBatch, R], Generic[S, A, O, R]):
    """A matrix whose trials stand alone.

    A trial depends on its attack, its column and its seed, and on nothing else: every run takes its own
    streams from the seed, so that order, workers and a resume change no row.

    Attributes:
        attack_type: What every attack must be.
        attack_words: Such an attack, in words.
        honest_words: The honest row, in words.
    """

    reading: ClassVar[type[PairReading[Any, Any]]]
    attack_type: ClassVar[type[Any]]
    attack_words: ClassVar[str]
    honest_words: ClassVar[str]

    def __init__(self, spec: S) -> None:
        load_user_plugins(spec.plugins)
        self.spec = spec
        self.attacks: dict[str, A | None] = {HONEST: None}
        for index, table in enumerate(spec.attacks):
            with at(f"attacks[{index}]"):
                label = table.label or table.name
                if label in self.attacks:
                    raise ConfigError("a label is used twice", got=repr(label), fix='add label = "..."')
                self.attacks[label] = self._attack(table)
        parts: dict[str, object] = {}
        for attack in self.attacks.values():
            parts |= {} if attack is None else attack_part(attack)
        self.code = sources_of(parts)

    @classmethod
    def make(cls, spec: S) -> Self:
        """The matrix of a specification."""
        return cls(spec)

    @abstractmethod
    def columns(self) -> Mapping[str, Any]:
        """What each column is, as JSON, by name: defaults written out, no names."""

    @abstractmethod
    def setting(self) -> Mapping[str, Any]:
        """What all trials have in common, as JSON."""

    @abstractmethod
    def trial(self, attack: A | None, column: str, seed: int) -> O:
        """Make one trial.

        Raises:
            ConfigError: The attack cannot be made there; the message says why.
        """

    @cached_property
    def cells(self) -> Mapping[Place, tuple[Unit, ...]]:
        """The trials of every cell, in the order of the seeds."""
        columns, common = self.columns(), {"kind": self.kind, **self.setting(), "versions": id_versions()}
        found: dict[Place, tuple[Unit, ...]] = {}
        for label, attack in self.attacks.items():
            made = {} if attack is None else attack_part(attack)
            identity = {
                **common,
                "attack": None if attack is None else dict(attack.to_config()),
                "code": digests_of(self.code, made),
            }
            for name, column in columns.items():
                found[label, name] = tuple(
                    Unit(stage=TRIAL, seed=seed, identity={**identity, "column": column, "seed": seed})
                    for seed in self.spec.seeds
                )
        return found

    def plan(self, settled: frozenset[str]) -> Plan[PairBatch]:
        """What is left to do: a batch for each trial."""
        batches = (
            PairBatch(
                title=f"{label} x {column}, seed {unit.seed}", units=(unit,), attack=label, column=column
            )
            for (label, column), units in self.cells.items()
            for unit in units
            if unit.unit_id not in settled
        )
        return Plan(stages=(tuple(batches),))

    def execute(self, batch: PairBatch, given: Mapping[str, Row]) -> Iterable[Row]:
        """Make one trial."""
        (unit,) = batch.units
        begun = time.process_time()
        try:
            outcome = self.trial(self.attacks[batch.attack], batch.column, unit.seed)
        except ConfigError as error:
            return (unit.row("incompatible", reason=str(error)),)
        except Exception as error:  # noqa: BLE001 - whatever it is becomes a row
            return (unit.row("failed", reason=sentence_of(error), traceback=traceback_of(error)),)
        return (unit.row("ok", self.reading.content(outcome), seconds=time.process_time() - begun),)

    @cached_property
    def frame(self) -> Mapping[str, Any]:
        """The rows and columns, and the unit ids of every cell."""
        found: dict[str, Any] = plain(
            {
                "head": self.head,
                "rows": list(self.attacks),
                "ideas": {label: self._idea(attack) for label, attack in self.attacks.items()},
                "columns": self.columns(),
                "spec": self.spec.model_dump(mode="json", exclude_none=True),
                "cells": [[*place, [unit.unit_id for unit in units]] for place, units in self.cells.items()],
            }
        )
        return found

    def _attack(self, table: PairAttackTable) -> A:
        registered = find("attack", table.name)
        if not issubclass(registered, self.attack_type):
            raise ConfigError(f"not {self.attack_words}", got=repr(table.name))
        attack: A = registered(**check(registered, dict(table.params), "params"))
        return attack

    def _idea(self, attack: A | None) -> str:
        if attack is None:
            return self.honest_words
        source = attack.card.source
        return f"{attack.card.idea} ({source.paper}, {source.year})"
