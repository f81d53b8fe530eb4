"""Threat models: who is corrupted, what they know, and when they look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from qflsec.base import ConfigError, register
from qflsec.threat.party import PUBLIC, QUANTUM_SERVER, SERVER, WIRE, Party, client

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


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """A coalition of corrupted parties with its knowledge.

    Attributes:
        name: A short name for tables.
        server: Whether the aggregation server is corrupted.
        clients: The indices of the corrupted clients.
        wire: Whether the network between the parties is corrupted.
        quantum_server: Whether the quantum server is corrupted.
        public: Whether the coalition reads what is published; every coalition can.
        active: Whether corrupted parties may deviate from the protocol.
        rushing: Whether corrupted clients send after they have seen the others' messages.
        knows: Granted knowledge; ``"honest-updates"`` is a strong assumption and named as such.
        when: Whether the coalition looks at every round, or only at the final model.
    """

    name: str
    server: bool = False
    clients: tuple[int, ...] = ()
    wire: bool = False
    quantum_server: bool = False
    public: bool = True
    active: bool = False
    rushing: bool = False
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
    when: Literal["every-round", "final-model"] = "every-round"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.knows) - set(_KNOWLEDGE))
        if unknown:
            raise ConfigError("unknown knowledge in a threat model", got=unknown, expected=list(_KNOWLEDGE))
        if any(index < 0 for index in self.clients) or len(set(self.clients)) != len(self.clients):
            raise ConfigError(
                "corrupted clients must be distinct and not negative",
                got=list(self.clients),
                expected="[0, 1]",
            )
        object.__setattr__(self, "clients", tuple(sorted(self.clients)))
        object.__setattr__(self, "knows", tuple(sorted(set(self.knows))))

    @property
    def parties(self) -> frozenset[Party]:
        """The corrupted parties."""
        found: set[Party] = {client(index) for index in self.clients}
        for flag, party in (
            (self.server, SERVER),
            (self.wire, WIRE),
            (self.quantum_server, QUANTUM_SERVER),
            (self.public, PUBLIC),
        ):
            if flag:
                found.add(party)
        return frozenset(found)

    def check(self, n_clients: int) -> None:
        """Refuse corrupted clients that do not exist.

        Raises:
            ConfigError: A corrupted client has an index that no client has.
        """
        if self.clients and max(self.clients) >= n_clients:
            raise ConfigError(
                f"threat model {self.name!r} corrupts a client that does not exist",
                got=f"client {max(self.clients)}",
                expected=f"an index below {n_clients}",
                fix="lower 'clients' in the threat model or raise 'n_clients' in the pipeline",
            )

    def withdrawn(self) -> ThreatModel:
        """The same threat model with every corrupted party taken away."""
        return replace(
            self, name="nobody", server=False, clients=(), wire=False, quantum_server=False, public=False
        )

    def to_config(self) -> dict[str, object]:
        """Every field, JSON-able, for ids."""
        config = asdict(self)
        config["clients"] = list(self.clients)
        config["knows"] = list(self.knows)
        return config

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
        if self.clients:
            n = len(self.clients)
            who.append(f"{n} client{'s' if n > 1 else ''}")
        if not who:
            who.append("the public" if self.public else "nobody")
        single = len(who) == 1 and len(self.clients) <= 1
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


@register("threat", "honest-but-curious-server")
def honest_but_curious_server(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """The server follows the protocol and looks at what it receives."""
    return ThreatModel(name="honest-but-curious-server", server=True, knows=knows)


@register("threat", "malicious-server")
def malicious_server(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """The server may send any model to any client."""
    return ThreatModel(name="malicious-server", server=True, active=True, knows=knows)


@register("threat", "honest-but-curious-quantum-server")
def honest_but_curious_quantum_server(
    *, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
) -> ThreatModel:
    """The quantum server executes what clients delegate to it, and looks at what it receives."""
    return ThreatModel(name="honest-but-curious-quantum-server", quantum_server=True, knows=knows)


@register("threat", "malicious-quantum-server")
def malicious_quantum_server(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """The quantum server may do anything with the qubits and angles that clients send it."""
    return ThreatModel(name="malicious-quantum-server", quantum_server=True, active=True, knows=knows)


@register("threat", "corrupted-clients")
def corrupted_clients(
    *,
    n: int = 2,
    active: bool = True,
    rushing: bool = False,
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary"),
) -> ThreatModel:
    """The first ``n`` clients are corrupted; partitions are shuffled, so which ones does not matter."""
    return ThreatModel(
        name=f"{n}-corrupted-clients", clients=tuple(range(n)), active=active, rushing=rushing, knows=knows
    )


@register("threat", "wire-eavesdropper")
def wire_eavesdropper(
    *, active: bool = False, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")
) -> ThreatModel:
    """The network is read, and altered where ``active``."""
    return ThreatModel(name="wire-eavesdropper", wire=True, active=active, knows=knows)


@register("threat", "public-final-model")
def public_final_model(*, knows: tuple[Knowledge, ...] = ("architecture", "auxiliary")) -> ThreatModel:
    """Anybody who reads the published final model."""
    return ThreatModel(name="public-final-model", when="final-model", knows=knows)


@register("threat", "coalition")
def coalition(
    *,
    server: bool = False,
    n: int = 0,
    wire: bool = False,
    quantum_server: bool = False,
    active: bool = False,
    rushing: bool = False,
    knows: tuple[Knowledge, ...] = ("architecture", "auxiliary"),
) -> ThreatModel:
    """Several corrupted parties that share all they hold: the first ``n`` clients, the servers, the network."""
    flags = ((server, "server"), (wire, "wire"), (quantum_server, "quantum-server"))
    parts = [label for flag, label in flags if flag]
    if n:
        parts.append(f"{n}-clients")
    return ThreatModel(
        name="+".join(parts) or "nobody",
        server=server,
        clients=tuple(range(n)),
        wire=wire,
        quantum_server=quantum_server,
        active=active,
        rushing=rushing,
        knows=knows,
    )


@register("threat", "nobody")
def nobody() -> ThreatModel:
    """No corrupted party: the control under which every attack must be blocked."""
    return NOBODY


NOBODY = ThreatModel(name="nobody", public=False, knows=("architecture", "auxiliary"))


def threat_from_config(config: Mapping[str, object]) -> ThreatModel:
    """The threat model described by :meth:`ThreatModel.to_config`.

    Raises:
        ConfigError: A key is unknown.
    """
    fields = set(ThreatModel.__dataclass_fields__)
    unknown = sorted(set(config) - fields)
    if unknown:
        raise ConfigError("unknown key in a threat model", got=unknown, expected=sorted(fields))
    values = dict(config)
    for key in ("clients", "knows"):
        if key in values:
            values[key] = tuple(values[key])  # type: ignore[arg-type]
    return ThreatModel(**values)  # type: ignore[arg-type]
