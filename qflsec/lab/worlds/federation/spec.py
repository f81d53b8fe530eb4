"""Matrix specifications: TOML files that cross attacks with stacks.

A specification names pipelines, stacks, threat models and attacks; see the presets beside this module. All
mistakes are found before anything runs, except that layers which cannot work together are no mistake: the
matrix shows such cells as incompatible.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qflsec.base import ConfigError
from qflsec.lab.grid.files import resolve
from qflsec.lab.grid.schema import at, nearest, read

__all__ = ["AttackTable", "MatrixSpec", "PipelineTable", "load_spec", "parse_spec", "presets"]

Table = dict[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,_+-]*$", max_length=60)]
_STRICT = ConfigDict(extra="forbid", frozen=True)


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
    """

    model_config = _STRICT
    data: Table
    model: Table
    partition: Table = {}
    federation: Table = {}
    execution: Table = {}
    client_executions: dict[str, Table] = {}
    topology: Table = {}
    personal: tuple[str, ...] = ()


class AttackTable(BaseModel):
    """A table ``[[attacks]]``.

    Attributes:
        name: The attack's registry name.
        pipeline: The pipeline that it runs on.
        threat: The threat model that it runs under.
        label: Its name in the matrix; the registry name by default.
        params: The attack's own parameters.
    """

    model_config = _STRICT
    name: str
    pipeline: str
    threat: str
    label: Name | None = None
    params: Table = {}


class MatrixSpec(BaseModel):
    """A specification.

    Attributes:
        name: The matrix's name.
        description: What it is for.
        seeds: The seeds; every cell has a trial for each.
        pipelines: Pipelines by name.
        stacks: Stacks by name, each a list of layers.
        threats: Threat models by name: a registered ``kind`` and its arguments.
        attacks: The attacks.
        utility_pipeline: Where the summaries take accuracy and costs from; the first pipeline by default.
        reference: The stack that the others are compared with; by default the one without layers. Where an
            attack needs something that only a layer brings, such as a quantum server, it is the weakest one.
        secrets: ``"os"``, or ``"seeded"`` for reproducible keys that protect nothing.
        plugins: Python modules or files that register attacks, layers, models or data sets.
    """

    model_config = _STRICT
    name: Name
    description: str = ""
    seeds: tuple[int, ...] = Field(min_length=1)
    pipelines: dict[Name, PipelineTable] = Field(min_length=1)
    stacks: dict[Name, tuple[Table, ...]] = Field(min_length=1)
    threats: dict[Name, Table] = {}
    attacks: tuple[AttackTable, ...] = Field(min_length=1)
    utility_pipeline: str | None = None
    reference: str | None = None
    secrets: Literal["os", "seeded"] = "os"
    plugins: tuple[str, ...] = ()

    def with_seeds(self, *, seeds: tuple[int, ...] | None = None, offset: int = 0) -> MatrixSpec:
        """The same matrix over other seeds, each shifted by ``offset``."""
        chosen = tuple(seed + offset for seed in (self.seeds if seeds is None else seeds))
        return parse_document({**self.model_dump(mode="json", exclude_none=True), "seeds": list(chosen)})


def presets() -> dict[str, Path]:
    """The specifications that come with the package, by name."""
    folder = Path(str(resources.files("qflsec.lab"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_spec(preset_or_file: str | Path) -> MatrixSpec:
    """A specification by the name of a preset or the path of a file.

    Raises:
        ConfigError: There is none, or it cannot be used; the message says where and how to mend it.
    """
    known = presets()
    name = str(preset_or_file)
    path = known.get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        looks_like_file = isinstance(error, UnicodeDecodeError) or path.suffix == ".toml" or path.exists()
        raise ConfigError(
            "the specification cannot be read" if looks_like_file else "unknown preset",
            got=repr(name),
            expected=f"a TOML file, or one of {', '.join(known)}",
            fix=nearest(name, known),
        ) from None
    with at(path.name):
        return parse_spec(text, base=path.parent)


def parse_spec(text: str, *, base: Path) -> MatrixSpec:
    """A specification from TOML text.

    Args:
        text: The text.
        base: The folder that the names of files are relative to.

    Raises:
        ConfigError: It cannot be used.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("not a TOML file", got=str(error), fix="mend the syntax there") from None
    for pipeline in _tables(document.get("pipelines")):
        for part in ("data", "model"):
            if isinstance(pipeline.get(part), dict):
                pipeline[part] = resolve(pipeline[part], base)
    if isinstance(document.get("plugins"), list):
        plugins = [str(name) for name in document["plugins"]]
        document["plugins"] = list(resolve(dict(zip(plugins, plugins, strict=True)), base).values())
    return parse_document(document)


def parse_document(document: Table) -> MatrixSpec:
    """A specification from its document, with the names of files absolute.

    Raises:
        ConfigError: It cannot be used.
    """
    spec = read(MatrixSpec, document, "")
    if len(set(spec.seeds)) != len(spec.seeds):
        raise ConfigError("seeds: a seed is listed twice", got=list(spec.seeds), expected="distinct seeds")
    labels = [attack.label or attack.name for attack in spec.attacks]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(
            "attacks: two attacks have the same label", got=", ".join(twice), fix='add label = "..." to one'
        )
    _check_references(spec)
    return spec


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
