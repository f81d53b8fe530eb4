"""What the engine asks of a kind of matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

from qflsec.base import ConfigError
from qflsec.base.sources import Sources
from qflsec.lab.grid.code import code_info
from qflsec.lab.grid.estimate import Part
from qflsec.lab.grid.ids import digest, versions
from qflsec.lab.grid.reading import Reading
from qflsec.lab.grid.results import Result, plain
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.grid.units import Batch, Place, Plan, Row, Unit

__all__ = ["AnyWorld", "World", "world_from_json"]

S = TypeVar("S", bound=GridSpec)
B = TypeVar("B", bound=Batch)
R = TypeVar("R", bound=Result[Any])


class World(ABC, Generic[S, B, R]):
    """A matrix of one kind, made into objects.

    The engine plans, runs, stores, resumes and compares without knowing what an experiment is. A kind says
    what its trials are, does the work of a batch, and reads its cells from rows.

    Attributes:
        kind: What a specification of this kind says of itself.
        spec_type: Its specifications.
        reading: What reads its results.
        spec: The specification.
        code: The sources of what does not come with the package, by what it is.
    """

    kind: ClassVar[str]
    spec_type: ClassVar[type[GridSpec]]
    reading: ClassVar[type[Reading[Any]]]
    spec: S
    code: Mapping[str, Sources]

    @classmethod
    @abstractmethod
    def make(cls, spec: S) -> Self:
        """The matrix of a specification.

        Raises:
            QflsecError: A name is unknown or a value cannot be used; the message starts with the key path.
        """

    @property
    @abstractmethod
    def cells(self) -> Mapping[Place, tuple[Unit, ...]]:
        """The trials of every cell, in the order of the seeds."""

    @abstractmethod
    def plan(self, settled: frozenset[str]) -> Plan[B]:
        """What is left to do.

        Args:
            settled: Ids of units that need not be repeated.
        """

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules that are imported late, as they take seconds, and that batches will need; none by default."""
        return ()

    @property
    def alone(self) -> bool:
        """Whether its batches must follow one another in the process that asks for them; no by default."""
        return False

    def close(self) -> None:
        """Give back what its batches have opened in this process; nothing by default."""

    def remarks(self) -> tuple[str, ...]:
        """What is to be said before anything is run; nothing by default."""
        return ()

    def parts(self, plan: Plan[B], *, measure: bool = False) -> tuple[Part, ...]:
        """What is left to do, part by part, with what it costs; by default nothing is known of that.

        Args:
            plan: What is left to do.
            measure: Whether to time short runs, rather than to follow a cost model alone.
        """
        batches = list(plan.batches)
        runs = sum(len(batch.units) for batch in batches)
        return (Part(name=f"matrix {self.spec.name!r}", runs=runs, batches=len(batches)),) if batches else ()

    @abstractmethod
    def execute(self, batch: B, given: Mapping[str, Row]) -> Iterable[Row]:
        """Do the work of a batch, in a worker.

        Args:
            batch: The batch.
            given: The rows of the units that it needs, by id; those that failed are there too.
        """

    @property
    @abstractmethod
    def frame(self) -> Mapping[str, Any]:
        """All that a result says of the matrix beside the rows, in JSON types; its ``"head"`` is :attr:`head`."""

    @property
    def head(self) -> dict[str, Any]:
        """What the head of every result says of the matrix, in JSON types."""
        found: dict[str, Any] = plain(
            {
                "name": self.spec.name,
                "description": self.spec.description,
                "versions": versions(),
                "seeds": self.spec.seeds,
                "code": [asdict(code_info(label, sources)) for label, sources in sorted(self.code.items())],
            }
        )
        return found

    def assemble(self, rows: Mapping[str, Row], *, command: str = "") -> R:
        """What a store knows of the matrix.

        Args:
            rows: The rows that count, by unit id.
            command: The command that made it.
        """
        result: R = self.reading.assemble(self.frame, rows, command=command)
        return result

    def check(self) -> None:
        """Find what only the data can tell, before anything is stored.

        Raises:
            QflsecError: Something cannot be used.
        """

    @property
    def code_digest(self) -> str:
        """The digest of all code that does not come with the package."""
        return digest({label: source.digest for label, source in self.code.items()})


AnyWorld: TypeAlias = World[Any, Any, Any]


@lru_cache(maxsize=1)  # loading another matrix may replace modules that this one is made of
def world_from_json(kind: type[AnyWorld], text: str, code: str) -> AnyWorld:
    """The matrix of a specification's text; remembered in each worker.

    Args:
        kind: The kind of matrix.
        text: The specification.
        code: The ``code_digest`` of the matrix that was planned.

    Raises:
        ConfigError: The user's code is another here.
    """
    world = kind.make(kind.spec_type.from_json(text))
    if world.code_digest != code:
        raise ConfigError(
            "the code of plugins or models differs from what the matrix was planned with",
            got=", ".join(sorted(world.code)),
            fix="give the same command again; workers on other machines need the same files",
        )
    return world
