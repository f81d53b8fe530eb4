"""Matrix specifications: TOML files that cross attacks with stacks.

A specification names pipelines, stacks, threat models and attacks; see the presets beside this module. All
mistakes are found before anything runs, except that layers which cannot work together are no mistake: the
matrix shows such cells as incompatible.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from qflsec.base import ConfigError
from qflsec.lab.grid.files import resolve
from qflsec.lab.grid.schema import nearest
from qflsec.lab.grid.spec import STRICT, GridSpec, Name, Table, different

__all__ = ["AttackTable", "MatrixSpec", "PipelineTable"]


class PipelineTable(BaseModel):
    """A table ``[pipelines.NAME]``: fields of the pipeline's parts.

    Attributes:
        data: Fields of :class:`qflsec.data.DataSpec`.
        model: A model's configuration.
        partition: Fields of :class:`qflsec.data.PartitionSpec`.
        federation: Fields of :class:`qflsec.federation.FederationConfig`.
        execution: Fields of :class:`qflsec.models.Execution`.
        client_executions: The same for single clients, by index.
        topology: A topology by name with its parameters; a star by default.
        personal: Blocks of the model's layout that every client keeps to itself.
        parts: Which parameters each client trains and sends: ``depths``, ``slimmable``, ``vehicles`` or ``satellites``
            by name, with its parameters.
        detects: The class whose detection is measured beside accuracy, by number, such as a rare one (AUROC and AUPR against
            the rest), or ``"every"`` for the mean over all classes; none by default.
        layers: Layers that belong to the system, such as a rule that weighs clients: under every stack each stands behind
            the stack's own at its place in the round.
    """

    model_config = STRICT
    data: Table
    model: Table
    partition: Table = {}
    federation: Table = {}
    execution: Table = {}
    client_executions: dict[str, Table] = {}
    topology: Table = {}
    personal: tuple[str, ...] = ()
    parts: Table = {}
    detects: int | Literal["every"] | None = None
    layers: tuple[Table, ...] = ()


class AttackTable(BaseModel):
    """A table ``[[attacks]]``.

    Attributes:
        name: The attack's registry name.
        pipeline: The pipeline that it runs on.
        threat: The threat model that it runs under.
        label: Its name in the matrix; the registry name by default.
        params: The attack's own parameters.
    """

    model_config = STRICT
    name: str
    pipeline: str
    threat: str
    label: Name | None = None
    params: Table = {}


class MatrixSpec(GridSpec):
    """A specification.

    Attributes:
        pipelines: Pipelines by name.
        stacks: Stacks by name, each a list of layers.
        threats: Threat models by name: a registered ``kind`` and its arguments.
        attacks: The attacks.
        utility_pipeline: Whose training and costs a report shows; the first pipeline by default.
        reference: The stack that the others are compared with; by default the one without layers. Where an
            attack needs something that only a layer brings, such as a quantum server, it is the weakest one.
        secrets: ``"os"``, or ``"seeded"`` for reproducible keys that protect nothing.
        engine: What makes the runs: the training ``"loop"``; ``"flower"``, a SuperLink and SuperNodes that make one run
            after the other, slowly; or ``"flower-in-process"``, a Flower app whose messages stay within one process.
    """

    kind: Literal["federation"] = "federation"
    pipelines: dict[Name, PipelineTable] = Field(min_length=1)
    stacks: dict[Name, tuple[Table, ...]] = Field(min_length=1)
    threats: dict[Name, Table] = Field(default_factory=dict)
    attacks: tuple[AttackTable, ...] = Field(min_length=1)
    utility_pipeline: str | None = None
    reference: str | None = None
    secrets: Literal["os", "seeded"] = "os"
    engine: Literal["loop", "flower", "flower-in-process"] = "loop"

    @classmethod
    def located(cls, document: Table, base: Path) -> Table:
        """The document with the names of files absolute; they are relative to ``base``."""
        found = super().located(document, base)
        for pipeline in _tables(found.get("pipelines")):
            for part in ("data", "model"):
                if isinstance(pipeline.get(part), dict):
                    pipeline[part] = resolve(pipeline[part], base)
        attacks, stacks = found.get("attacks"), found.get("stacks")
        systems = [pipeline.get("layers") for pipeline in _tables(found.get("pipelines"))]
        for attack in attacks if isinstance(attacks, list) else []:
            if isinstance(attack, dict) and isinstance(attack.get("params"), dict):
                attack["params"] = resolve(attack["params"], base)
        for layers in (*systems, *(stacks.values() if isinstance(stacks, dict) else ())):
            if isinstance(layers, list):
                layers[:] = [resolve(one, base) if isinstance(one, dict) else one for one in layers]
        return found

    def check(self) -> None:
        """Refuse labels that are used twice, names that differ only in case, and names of tables that do not exist.

        Raises:
            ConfigError: There are some.
        """
        for what, table in (
            ("pipelines", self.pipelines),
            ("stacks", self.stacks),
            ("threats", self.threats),
        ):
            different(table, what)
        labels = [attack.label or attack.name for attack in self.attacks]
        different(labels, "attacks")
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ConfigError(
                "attacks: two attacks have the same label",
                got=", ".join(twice),
                fix='add label = "..." to one',
            )
        _check_references(self)


def _check_references(spec: MatrixSpec) -> None:
    wanted = [
        (f"attacks[{index}].{kind}", getattr(attack, kind), known)
        for index, attack in enumerate(spec.attacks)
        for kind, known in (("pipeline", list(spec.pipelines)), ("threat", list(spec.threats)))
    ]
    if spec.utility_pipeline is not None:
        wanted.append(("utility_pipeline", spec.utility_pipeline, list(spec.pipelines)))
    if spec.reference is not None:
        wanted.append(("reference", spec.reference, list(spec.stacks)))
    for path, name, known in wanted:
        if name not in known:
            table = {"threat": "threats", "reference": "stacks"}.get(path.rpartition(".")[2], "pipelines")
            raise ConfigError(
                f"{path}: no table [{table}.{name}]",
                got=repr(name),
                expected=f"one of {', '.join(known)}" if known else f"a table [{table}.{name}]",
                fix=nearest(name, known),
            )


def _tables(value: object) -> list[Table]:
    return [part for part in value.values() if isinstance(part, dict)] if isinstance(value, dict) else []
