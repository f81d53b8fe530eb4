"""Threat models: who is corrupted, what they know, and when they look."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from qflsec.base import ConfigError, IncompatibleStack, finite, register, stream
from qflsec.threat.party import PUBLIC, QUANTUM_SERVER, SERVER, WIRE, Party, Role, client, edge

__all__ = [
    "NOBODY",
    "Knowledge",
    "ThreatModel",
    "coalition",
    "corrupted_clients",
    "honest_but_curious_quantum_server",
    "honest_but_curious_server",
    "malicious_quantum_server",
    "malicious_server",
    "nobody",
    "public_final_model",
    "threat_from_config",
    "wire_eavesdropper",
]

Knowledge = Literal["architecture", "auxiliary", "defenses", "honest-updates"]
_KNOWLEDGE: tuple[Knowledge, ...] = ("architecture", "auxiliary", "defenses", "honest-updates")


@finite
@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """A coalition of corrupted parties with its knowledge.

    Attributes:
        name: A short name for tables.
        corrupted: The corrupted parties. Whoever corrupts anybody also reads what is published, so that the
            public is added to every coalition but the empty one.
        active: Whether corrupted parties may deviate from the protocol.
        rushing: Whether corrupted clients send after they have seen the others' messages.
        knows: Granted knowledge; ``"honest-updates"`` is a strong assumption and named as such.
        when: Whether the coalition looks at every round, or only at the final model.
        drawn_among: Among how many clients the corrupted ones are drawn anew for each seed, as :meth:`at` does; 0 where
            they are the same ones in all.
    """

    name: str
    corrupted: frozenset[Party]
    active: bool = False
    rushing: bool = False
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
    when: Literal["every-round", "final-model"] = "every-round"
    drawn_among: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.knows) - set(_KNOWLEDGE))
        if unknown:
            raise ConfigError("unknown knowledge in a threat model", got=unknown, expected=list(_KNOWLEDGE))
        negative = sorted(str(party) for party in self.corrupted if party.index < 0)
        if negative:
            raise ConfigError("a corrupted party has a negative index", got=negative, expected="0 or more")
        if self.corrupted:
            object.__setattr__(self, "corrupted", self.corrupted | {PUBLIC})
        object.__setattr__(self, "knows", tuple(sorted(set(self.knows))))

    @property
    def server(self) -> bool:
        """Whether the aggregation server is corrupted."""
        return SERVER in self.corrupted

    @property
    def clients(self) -> tuple[int, ...]:
        """The indices of the corrupted clients, ascending."""
        return self._indices("client")

    @property
    def edges(self) -> tuple[int, ...]:
        """The indices of the corrupted edge servers, ascending."""
        return self._indices("edge")

    @property
    def wire(self) -> bool:
        """Whether the network between the parties is corrupted."""
        return WIRE in self.corrupted

    @property
    def quantum_server(self) -> bool:
        """Whether the quantum server is corrupted."""
        return QUANTUM_SERVER in self.corrupted

    @property
    def public(self) -> bool:
        """Whether the coalition reads what is published: all but the empty one do."""
        return PUBLIC in self.corrupted

    def _indices(self, role: Role) -> tuple[int, ...]:
        return tuple(sorted(party.index for party in self.corrupted if party.role == role))

    def absent(self, parties: Collection[Party]) -> tuple[Party, ...]:
        """The corrupted parties that are not among these, in order."""
        return tuple(sorted(self.corrupted - frozenset(parties)))

    def check(self, parties: Collection[Party]) -> None:
        """Refuse corrupted parties that do not exist.

        Args:
            parties: The parties of the pipeline.

        Raises:
            ConfigError: A corrupted client has an index that no client has.
            IncompatibleStack: The topology lacks a corrupted server or edge server.
        """
        for party in reversed(self.absent(parties)):
            same_role = sorted(other.index for other in parties if other.role == party.role)
            if party.role == "client":
                raise ConfigError(
                    f"threat model {self.name!r} corrupts a client that does not exist",
                    got=f"client {party.index}",
                    expected=f"an index below {len(same_role)}",
                    fix="lower 'clients' in the threat model or raise 'n_clients' in the pipeline",
                )
            raise IncompatibleStack(
                f"threat model {self.name!r} corrupts a party that the topology lacks",
                got=str(party),
                expected=f"an index below {len(same_role)}" if same_role else f"no {party.role}",
                fix="choose a topology with such a party, or another threat model",
            )

    def at(self, seed: int) -> ThreatModel:
        """The coalition of the runs of one seed: this one, unless its clients are drawn anew for each."""
        if not self.drawn_among:
            return self
        import torch

        order = torch.randperm(
            self.drawn_among, generator=stream(seed, "corrupted-clients", self.drawn_among)
        )
        others = frozenset(party for party in self.corrupted if party.role != "client")
        drawn = frozenset(map(client, order[: len(self.clients)].tolist()))
        return replace(self, corrupted=others | drawn, drawn_among=0)

    def withdrawn(self) -> ThreatModel:
        """The same threat model with every corrupted party taken away."""
        return replace(self, name="nobody", corrupted=frozenset())

    def to_config(self) -> dict[str, object]:
        """Parties by role and every other field, JSON-able, for ids; edge servers and draws only where there are some."""
        return {
            "name": self.name,
            "server": self.server,
            "clients": list(self.clients),
            "wire": self.wire,
            "quantum_server": self.quantum_server,
            "public": self.public,
            **({"edges": list(self.edges)} if self.edges else {}),
            **({"drawn_among": self.drawn_among} if self.drawn_among else {}),
            "active": self.active,
            "rushing": self.rushing,
            "knows": list(self.knows),
            "when": self.when,
        }

    def __str__(self) -> str:
        who = [
            label
            for flag, label in (
                (self.server, "the server"),
                (self.wire, "the network"),
                (self.quantum_server, "the quantum server"),
            )
            if flag
        ]
        for noun, n in (("edge server", len(self.edges)), ("client", len(self.clients))):
            if n:
                anew = ", drawn anew for each seed," if noun == "client" and self.drawn_among else ""
                who.append(f"{n} {noun}{'s' if n > 1 else ''}{anew}")
        if not who:
            who.append("the public" if self.public else "nobody")
        single = len(who) == 1 and len(self.clients) <= 1 and len(self.edges) <= 1
        manner = (
            f"deviate{'s' if single else ''} from the protocol"
            if self.active
            else f"follow{'s' if single else ''} the protocol and look{'s' if single else ''}"
        )
        if who == ["nobody"]:
            return "Nobody is corrupted."
        when = "in every round" if self.when == "every-round" else "at the final model only"
        rush = ", after seeing the others' messages" if self.rushing else ""
        knows = ", ".join(self.knows) if self.knows else "nothing else"
        names = " and ".join([", ".join(who[:-1]), who[-1]] if len(who) > 1 else who)
        return f"{names[0].upper()}{names[1:]} {manner} {when}{rush}, knowing {knows}."


def _refuse_negative(**counts: int) -> None:
    """Refuse fewer parties than none.

    Raises:
        ConfigError: A count is negative.
    """
    for name, count in counts.items():
        if count < 0:
            raise ConfigError(f"{name!r} is negative", got=count, expected="0 or more")


@register("threat", "honest-but-curious-server")
def honest_but_curious_server(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """The server follows the protocol and looks at what it receives.

    Args:
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(name="honest-but-curious-server", corrupted=frozenset({SERVER}), knows=knows)


@register("threat", "malicious-server")
def malicious_server(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """The server may send any model to any client.

    Args:
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(name="malicious-server", corrupted=frozenset({SERVER}), active=True, knows=knows)


@register("threat", "honest-but-curious-quantum-server")
def honest_but_curious_quantum_server(
    *, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
) -> ThreatModel:
    """The quantum server executes what clients delegate to it, and looks at what it receives.

    Args:
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(
        name="honest-but-curious-quantum-server", corrupted=frozenset({QUANTUM_SERVER}), knows=knows
    )


@register("threat", "malicious-quantum-server")
def malicious_quantum_server(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """The quantum server may do anything with the qubits and angles that clients send it.

    Args:
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(
        name="malicious-quantum-server", corrupted=frozenset({QUANTUM_SERVER}), active=True, knows=knows
    )


@register("threat", "corrupted-clients")
def corrupted_clients(
    *,
    n: int = 2,
    active: bool = True,
    rushing: bool = False,
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary"),
) -> ThreatModel:
    """The first ``n`` clients are corrupted; partitions are shuffled, so which ones does not matter.

    Args:
        n: How many clients are corrupted.
        active: Whether they deviate from the protocol, or only look.
        rushing: Whether they send after seeing the messages of the others in the same round.
        knows: What the adversary knows beforehand.
    """
    _refuse_negative(n=n)
    return ThreatModel(
        name=f"{n}-corrupted-clients",
        corrupted=frozenset(map(client, range(n))),
        active=active,
        rushing=rushing,
        knows=knows,
    )


@register("threat", "wire-eavesdropper")
def wire_eavesdropper(
    *, active: bool = False, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
) -> ThreatModel:
    """The network is read, and altered where ``active``.

    Args:
        active: Whether messages are altered, or only read.
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(name="wire-eavesdropper", corrupted=frozenset({WIRE}), active=active, knows=knows)


@register("threat", "public-final-model")
def public_final_model(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """Anybody who reads the published final model.

    Args:
        knows: What the adversary knows beforehand.
    """
    return ThreatModel(
        name="public-final-model", corrupted=frozenset({PUBLIC}), when="final-model", knows=knows
    )


@register("threat", "coalition")
def coalition(
    *,
    server: bool = False,
    n: int = 0,
    wire: bool = False,
    quantum_server: bool = False,
    edges: int = 0,
    active: bool = False,
    rushing: bool = False,
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary"),
) -> ThreatModel:
    """Several corrupted parties that share all they hold: the servers, the network, the first edges and clients.

    A coalition of nobody reads what is published; see :func:`nobody` for the control that reads nothing.

    Args:
        server: Whether the server is one of them.
        n: How many clients are.
        wire: Whether the network is.
        quantum_server: Whether the quantum server is.
        edges: How many edge servers are.
        active: Whether they deviate from the protocol, or only look.
        rushing: Whether they send after seeing the messages of the others in the same round.
        knows: What the adversary knows beforehand.
    """
    _refuse_negative(n=n, edges=edges)
    flags = ((server, SERVER), (wire, WIRE), (quantum_server, QUANTUM_SERVER))
    single = [party for flag, party in flags if flag]
    groups = [f"{count}-{noun}" for count, noun in ((edges, "edges"), (n, "clients")) if count]
    return ThreatModel(
        name="+".join([*map(str, single), *groups]) or "nobody",
        corrupted=frozenset({PUBLIC, *single, *map(edge, range(edges)), *map(client, range(n))}),
        active=active,
        rushing=rushing,
        knows=knows,
    )


@register("threat", "nobody")
def nobody() -> ThreatModel:
    """No corrupted party: the control under which every attack must be blocked."""
    return NOBODY


NOBODY = ThreatModel(name="nobody", corrupted=frozenset())


def threat_from_config(config: Mapping[str, object]) -> ThreatModel:
    """The threat model described by :meth:`ThreatModel.to_config`.

    Raises:
        ConfigError: A key is unknown.
    """
    fields = {"edges", "drawn_among", *NOBODY.to_config()}
    unknown = sorted(set(config) - fields)
    if unknown:
        raise ConfigError("unknown key in a threat model", got=unknown, expected=sorted(fields))
    values = dict(config)
    flags = {"server": SERVER, "wire": WIRE, "quantum_server": QUANTUM_SERVER, "public": PUBLIC}
    single = {party for name, party in flags.items() if values.pop(name, name == "public")}
    clients, edges = values.pop("clients", ()), values.pop("edges", ())
    values["knows"] = tuple(values.get("knows", ("architecture", "auxiliary")))  # type: ignore[arg-type]
    corrupted = frozenset({*single, *map(client, clients), *map(edge, edges)})  # type: ignore[call-overload]
    return ThreatModel(corrupted=corrupted, **values)  # type: ignore[arg-type]
