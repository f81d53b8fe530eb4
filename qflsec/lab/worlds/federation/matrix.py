"""A matrix as objects: pipelines, stacks, threat models and attacks made from a specification."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qflsec.attacks import Attack, Inference, attack_from_config
from qflsec.base import ConfigError, find
from qflsec.base.errors import Together
from qflsec.base.sources import Sources
from qflsec.data import DataSpec
from qflsec.data.function import find_function
from qflsec.federation import (
    Adversary,
    FederationConfig,
    Layer,
    Pipeline,
    RunSpec,
    parts_from_config,
)
from qflsec.federation.stack import in_order
from qflsec.federation.topology import Topology, topology_from_config
from qflsec.lab.grid.code import attack_part, digests_of, sources_of
from qflsec.lab.grid.files import load_user_plugins, without_places
from qflsec.lab.grid.ids import digest, id_versions
from qflsec.lab.grid.schema import at
from qflsec.lab.worlds.federation import engines
from qflsec.lab.worlds.federation.code import data_label, layer_parts, pipeline_parts, user_files
from qflsec.lab.worlds.federation.columns import StackEntry, entry_of, layers_of, stack_of
from qflsec.lab.worlds.federation.compatible import attack_fits, stack_fits
from qflsec.lab.worlds.federation.ids import nameless, run_identity, trial_identity
from qflsec.lab.worlds.federation.size import refuse_pipeline, refuse_table
from qflsec.lab.worlds.federation.spec import MatrixSpec, PipelineTable
from qflsec.lab.worlds.federation.tables import (
    by_client,
    check_clients,
    checked,
    client_index,
    made,
    partition_of,
    threat_of,
)
from qflsec.models import Execution, Model, build_model
from qflsec.threat import (
    ThreatModel,
    corrupted_clients,
    honest_but_curious_server,
    public_final_model,
    wire_eavesdropper,
)

__all__ = [
    "AttackEntry",
    "Matrix",
    "build_matrix",
]


@dataclass(frozen=True, kw_only=True)
class AttackEntry:
    """A row: an attack with its pipeline and threat model.

    Attributes:
        label: Its name in the matrix.
        attack: The attack.
        pipeline: The pipeline's name.
        threat: The threat model.
    """

    label: str
    attack: Attack
    pipeline: str
    threat: ThreatModel

    @property
    def manipulates(self) -> bool:
        """Whether the attack needs runs of its own."""
        return isinstance(self.attack, Adversary)

    def run_spec(self, seed: int) -> RunSpec:
        """The run that is attacked: the manipulated one, or the honest one that is looked at."""
        if isinstance(self.attack, Adversary):
            return RunSpec(seed=seed, adversary=self.attack, threat=self.threat.at(seed))
        return RunSpec(seed=seed)

    @property
    def adaptive(self) -> bool:
        """Whether it computes against each stack's own layers: its card says so, and the threat model grants them."""
        return self.attack.card.adaptive and "defenses" in self.threat.knows


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A specification made into objects.

    Attributes:
        spec: The specification.
        pipelines: Pipelines by name.
        systems: The layers that belong to each pipeline, whatever the stack.
        stacks: Columns by name.
        threats: Threat models by name.
        attacks: Rows.
        observers: Against whom ledgers are kept: the threat models of the specification and, beside them,
            the usual single observers.
        code: The sources of what does not come with the package, by what it is.
    """

    spec: MatrixSpec
    pipelines: Mapping[str, Pipeline]
    systems: Mapping[str, tuple[Layer, ...]]
    stacks: Mapping[str, StackEntry]
    threats: Mapping[str, ThreatModel]
    attacks: tuple[AttackEntry, ...]
    observers: tuple[ThreatModel, ...]
    code: Mapping[str, Sources] = field(default_factory=dict)

    @property
    def code_digest(self) -> str:
        """The digest of all code that does not come with the package."""
        return digest({label: source.digest for label, source in self.code.items()})

    @property
    def utility_pipeline(self) -> str:
        """The pipeline whose training and costs a report shows."""
        return self.spec.utility_pipeline or next(iter(self.pipelines))

    def entry(self, label: str) -> AttackEntry:
        """The row with this label."""
        return next(entry for entry in self.attacks if entry.label == label)

    def column(self, pipeline: str, stack: str) -> StackEntry:
        """The stack as it runs on the pipeline: with the layers that belong to the system."""
        column, own = self.stacks[stack], self.systems[pipeline]
        return (
            column if column.stack is None or not own else entry_of(stack, in_order((*column.layers, *own)))
        )

    def incompatible(self, pipeline: str, stack: str) -> str:
        """Why the stack cannot run on the pipeline, as a sentence; empty where it can."""
        column, parts = self.column(pipeline, stack), self.pipelines[pipeline]
        if column.stack is None:
            return column.incompatible
        return stack_fits(parts, column.stack) or engines.stack_fits(self.spec.engine, parts, column.stack)

    def impossible(self, entry: AttackEntry, stack: str) -> str:
        """Why the attack cannot be made under the stack, as a sentence; empty where it can."""
        made = self.column(entry.pipeline, stack).stack
        reason = self.incompatible(entry.pipeline, stack)
        if reason or made is None:
            return reason
        pipeline, run = self.pipelines[entry.pipeline], entry.run_spec(self.spec.seeds[0])
        reason = attack_fits(pipeline, made, entry.attack, entry.threat, run)
        return reason or engines.attack_fits(self.spec.engine, pipeline, made, entry.attack, entry.threat)

    def outside(self, entry: AttackEntry, stack: str) -> str:
        """Why the stack's robust layers promise nothing against the attack, as a sentence; empty where they do.

        Against groups of clients whose number only a run knows, nothing is said.
        """
        made = self.column(entry.pipeline, stack).stack
        if made is None or made.leaves != "individual" or not entry.manipulates or not entry.threat.active:
            return ""
        from qflsec.defenses.robust import outside_guarantee  # every rule comes with it

        pipeline, clients = self.pipelines[entry.pipeline], entry.threat.clients
        for group in pipeline.ruled:
            n = min(pipeline.federation.n_participants, len(group))
            # in the worst round all of them take part; where they are drawn, in the worst run all are in one group
            met = clients if entry.threat.drawn_among else set(clients) & set(group)
            why = outside_guarantee(
                made.server,
                n=n,
                declared=pipeline.federation.declared_corrupted,
                corrupted=min(len(met), n),
            )
            if why:
                return why
        return ""

    def run_identity(self, pipeline: str, stack: str, seed: int, entry: AttackEntry | None) -> dict[str, Any]:
        """What the run's id is the digest of.

        Args:
            pipeline: The pipeline's name.
            stack: The stack's name; empty for a run without layers.
            seed: The seed.
            entry: The manipulation; None for an honest run.
        """
        parts = self.pipelines[pipeline]
        config = parts.to_config()
        config["data"] = without_places(parts.data.to_config())
        config["model"] = without_places(parts.model.to_config())
        layers = self.column(pipeline, stack).layers if stack else ()
        manipulation = entry.attack if entry is not None else None
        made_by = [*pipeline_parts(parts), *layer_parts(layers)]
        if manipulation is not None:
            made_by += attack_part(manipulation)
        return run_identity(
            pipeline=config,
            stack=[without_places(layer.to_config()) for layer in layers],
            seed=seed,
            secrets=self.spec.secrets,
            versions=id_versions(),
            code={**digests_of(self.code, made_by), **self._data_code(pipeline)},
            manipulation=None if manipulation is None else without_places(manipulation.to_config()),
            threat=None if entry is None else entry.threat.to_config(),
            engine=self.spec.engine,
        )

    def _data_code(self, pipeline: str) -> dict[str, str]:
        """The digest of the function that gives the data with everything that it imports, where one does."""
        sources = self.code.get(data_label(pipeline))
        return {} if sources is None else {"data": sources.digest}

    def trial_identity(self, run_id: str, entry: AttackEntry) -> dict[str, Any]:
        """What a trial's id is the digest of."""
        return trial_identity(
            run=run_id,
            attack=without_places(entry.attack.to_config()),
            threat=entry.threat.to_config(),
            code=digests_of(self.code, attack_part(entry.attack)),
        )


def build_matrix(spec: MatrixSpec) -> Matrix:
    """Make the objects that a specification names.

    Raises:
        QflsecError: A name is unknown or a value cannot be used; the message starts with the key path.
    """
    engines.check_engine(spec.engine)
    load_user_plugins(spec.plugins)
    with Together() as each:
        pipelines = {n: each(_pipeline, table, f"pipelines.{n}") for n, table in spec.pipelines.items()}
        systems = {
            n: each(layers_of, table.layers, f"pipelines.{n}.layers") for n, table in spec.pipelines.items()
        }
        stacks = {name: each(stack_of, name, layers) for name, layers in spec.stacks.items()}
        threats = {name: each(_threat, name, table) for name, table in spec.threats.items()}
        tables = [each(_attack_table, spec, index) for index in range(len(spec.attacks))]
    with Together() as each:
        attacks = tuple(each(_attack, spec, index, table, threats) for index, table in enumerate(tables))
    with Together() as each:
        for index, entry in enumerate(attacks):
            each(
                check_clients,
                pipelines[entry.pipeline].federation.n_clients,
                entry.threat,
                f"attacks[{index}].threat",
            )
    parts = [pipeline_parts(one) for one in pipelines.values()]
    parts += [layer_parts(layers) for layers in (*systems.values(), *(one.layers for one in stacks.values()))]
    parts += [attack_part(entry.attack) for entry in attacks]
    return Matrix(
        spec=spec,
        pipelines=pipelines,
        systems=systems,
        stacks=stacks,
        threats=threats,
        attacks=attacks,
        observers=_observers(tuple(threats.values())),
        code=sources_of(dict(ChainMap(*parts)), user_files(pipelines)),
    )


def _pipeline(table: PipelineTable, path: str) -> Pipeline:
    with Together() as each:
        data = each(_data, table, path)
        model = each(_model, table, path)
        execution = each(made, Execution, table.execution, f"{path}.execution")
        topology = each(_topology, table, path)
        clients = each(_clients, table, path)
        each(partition_of, table, path)
        each(made, FederationConfig, table.federation, f"{path}.federation")
    table = by_client(data, table, path)
    with at(path):
        pipeline = Pipeline(
            data=data,
            model=model,
            partition=partition_of(table, path),
            federation=made(FederationConfig, table.federation, f"{path}.federation"),
            execution=execution,
            client_executions=clients,
            topology=topology,
            personal=table.personal,
            parts=parts_from_config(table.parts),
            detects=table.detects,
        )
        refuse_pipeline(pipeline)
    return pipeline


def _data(table: PipelineTable, path: str) -> DataSpec:
    data = made(DataSpec, table.data, f"{path}.data")
    with at(f"{path}.data.name"):
        find("dataset", data.name)
    with at(f"{path}.data"):
        if data.name == "function" and data.path is not None:
            find_function(data.path)
    return data


def _model(table: PipelineTable, path: str) -> Model:
    given = table.data.get("n_features", DataSpec.n_features)
    with at(f"{path}.model"):
        refuse_table(table.model)
        n_features = (
            given if isinstance(given, int) else DataSpec.n_features
        )  # data say what is wrong with it
        return build_model({"n_features": n_features, **table.model})


def _topology(table: PipelineTable, path: str) -> Topology:
    return topology_from_config(checked("topology", {"name": "star", **table.topology}, f"{path}.topology"))


def _clients(table: PipelineTable, path: str) -> dict[int, Execution]:
    return {
        client_index(index, path): made(Execution, part, f"{path}.client_executions.{index}")
        for index, part in table.client_executions.items()
    }


def _threat(name: str, table: Mapping[str, Any]) -> ThreatModel:
    return replace(threat_of(table, f"threats.{name}"), name=name)


def _attack_table(spec: MatrixSpec, index: int) -> dict[str, Any]:
    table = spec.attacks[index]
    return checked("attack", {**table.params, "name": table.name}, f"attacks[{index}]")


def _attack(
    spec: MatrixSpec, index: int, checked: Mapping[str, Any], threats: Mapping[str, ThreatModel]
) -> AttackEntry:
    table = spec.attacks[index]
    with at(f"attacks[{index}]"):
        attack = attack_from_config(checked)
        threat = threats[table.threat]
        if isinstance(attack, Adversary):
            attack.corrupts(threat)
            RunSpec(seed=0, adversary=attack, threat=threat)
        elif not isinstance(attack, Inference):
            raise ConfigError(
                "this attack has no place in a matrix",
                got=repr(table.name),
                expected="an inference or a manipulation",
                fix="attacks inside one protocol have matrices of their own: 'qflsec bb84 matrix' and "
                "'qflsec blind matrix'",
            )
        return AttackEntry(
            label=table.label or table.name,
            attack=attack,
            pipeline=table.pipeline,
            threat=threat,
        )


def _observers(threats: tuple[ThreatModel, ...]) -> tuple[ThreatModel, ...]:
    usual = (
        honest_but_curious_server(),
        replace(corrupted_clients(n=1, active=False), name="one-client"),
        wire_eavesdropper(),
        public_final_model(),
    )
    names = {threat.name for threat in threats}
    known = [nameless(threat.to_config()) for threat in threats]
    return (
        *threats,
        *(
            threat
            for threat in usual
            if threat.name not in names and nameless(threat.to_config()) not in known
        ),
    )
