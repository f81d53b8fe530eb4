"""Every public method of every party is a stage, or only reads: a second call, or one out of order, is refused.

Each protocol runs twice. The first run tells which stages each party passes, in which order. In the second, before
and after each of them, the test calls whatever the guard must refuse: again, with the very arguments of this run, all
that the party has done in this pass, and before its time, all that it will do later.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np
import pytest

import qflsec.protocols
from qflsec.base import SeededSecrets
from qflsec.circuits import Angle, Circuit, Gate, pauli_z
from qflsec.federation import PartyState
from qflsec.protocols.bb84.cascade import CascadeParty
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.parties import Alice, Bob
from qflsec.protocols.bb84.postprocess_parties import AlicePost, BobPost
from qflsec.protocols.bb84.run import run_bb84
from qflsec.protocols.bb84.run_config import BB84Config
from qflsec.protocols.blind import QlineClients, Shots, blind_expectations
from qflsec.protocols.blind.client import BlindClient
from qflsec.protocols.blind.homomorphic import Homomorphic, homomorphic_expectations
from qflsec.protocols.blind.homomorphic.parties import PadClient, PadServer
from qflsec.protocols.blind.opened import OpenClient
from qflsec.protocols.blind.qline import LineClient, Masks
from qflsec.protocols.blind.server import QuantumServer
from qflsec.protocols.ghz import Ghz, GhzClient, GhzServer
from qflsec.protocols.ghz.layer import _Server as GhzServerState
from qflsec.protocols.links import KeyAgreement
from qflsec.protocols.secagg import Client, Ddp, HeBfv, HeCkks, HeMasked, HeThreshold, Masked, SecAgg, Server
from qflsec.protocols.secagg.ddp.layer import DdpClient
from qflsec.protocols.secagg.groups.layer import ValidatedGroups
from qflsec.protocols.secagg.groups.states import GroupMember, GroupServer
from qflsec.protocols.secagg.groups.states import _Drawing as Drawing
from qflsec.protocols.secagg.he.masked import MaskingClient
from qflsec.protocols.secagg.he.release import ReleaseClient
from qflsec.protocols.secagg.he.state import HeClient, HeServer
from qflsec.protocols.secagg.he.threshold_state import ThresholdClient, ThresholdServer
from qflsec.protocols.secagg.masks.layer import _Client as MaskedClient
from qflsec.protocols.secagg.one_round import run_round
from qflsec.protocols.secagg.rounds.states import ClientState, ServerState
from qflsec.protocols.stages import OutOfOrder, Staged
from qflsec.protocols.validated.layer import Validated
from qflsec.protocols.validated.states import ProvingClient, ValidatingServer

STATE = {"key_names", "costs", "check_ready"}
READS_OF_BLIND = {"batches", "decoded_signs", "outcomes", "failures"}
READS: dict[type, set[str]] = {
    Client: set(),
    Server: set(),
    ClientState: STATE
    | {"mask", "answer"},  # hand each question, and one delivery, to the client's own stages
    ServerState: STATE,
    ProvingClient: STATE | {"mask", "answer"},
    ValidatingServer: STATE,
    GroupMember: STATE | {"mask", "answer", "announce", "learn", "begin"},  # stages of the drawing of groups
    GroupServer: STATE | {"learn", "begin", "drop"},
    HeClient: STATE | {"bound", "require_key"},
    HeServer: STATE | {"bound", "require_key", "announce", "learn"},  # says and hears nothing
    MaskingClient: STATE | {"bound", "require_key"},
    ReleaseClient: STATE | {"bound", "require_key"},
    ThresholdClient: STATE | {"seal", "unseal", "added", "require_key", "announce", "learn"},
    ThresholdServer: STATE | {"seal", "unseal", "added", "require_key", "announce", "learn"},
    KeyAgreement: {"agree", "encapsulate", "decapsulate"},  # of what was heard once
    GhzClient: set(),
    GhzServer: set(),
    BlindClient: READS_OF_BLIND,
    QuantumServer: {"answer", "entangle"},  # answering is linking and measuring
    Masks: set(),
    LineClient: set(),
    PadClient: set(),
    PadServer: {"evaluate"},  # on ciphertexts, of which it may make what it likes
    Alice: set(),
    Bob: set(),
    AlicePost: {"seal", "unseal", "discard"},  # tags are numbered by their pads
    BobPost: {"seal", "unseal", "discard"},
    CascadeParty: {"corrected", "count"},
    DdpClient: STATE | {"mask", "answer"},
    MaskedClient: STATE | {"announce", "learn"},  # stages of its key agreement
    Drawing: set(),
    OpenClient: READS_OF_BLIND,
    GhzServerState: STATE | {"announce", "learn"},  # says and hears nothing
}
SHARED = {
    "PostParty",  # what Alice and Bob have in common
    "_State",  # what clients and the server of a layer have in common
}
"""Classes that nobody is, but others are made from."""
NOT_STAGED = {
    "qflsec.protocols.ghz.layer.ClientState": "hands everything to a GhzClient",
    "qflsec.protocols.secagg.masks.layer._Server": "adds what it got and holds no secret",
    "qflsec.protocols.blind.layer._State": "hands everything to a BlindClient",
    "qflsec.protocols.links.link_end.LinkEnd": "numbers messages: a second one under a number is refused there",
    "qflsec.protocols.links.sealed_epochs.EpochEnd": "as LinkEnd",
    "qflsec.protocols.links.aes_gcm._End": "as LinkEnd",
    "qflsec.protocols.links.hybrid._HybridEnd": "as LinkEnd",
    "qflsec.protocols.links.one_time_pad._PadEnd": "as LinkEnd",
    "qflsec.protocols.links.qkd.QkdEnd": "as LinkEnd",
    "qflsec.protocols.links.qkd_aes._AesEnd": "as LinkEnd",
}
"""States of parties without stages, and why they need none."""


def of_protocols(kind: type) -> Iterator[type]:
    """All classes below one in the package's protocols, whichever modules tests happen to import."""
    for module in pkgutil.walk_packages(qflsec.protocols.__path__, "qflsec.protocols."):
        importlib.import_module(module.name)
    for below in {*all_parties(kind)}:
        if below.__module__.startswith("qflsec.protocols"):
            yield below


def test_no_party_is_missing() -> None:
    """A new party with stages stands in the table above, and a new state without stages says why it needs none."""
    missing = [kind for kind in of_protocols(Staged) if kind not in READS and kind.__name__ not in SHARED]
    assert not missing
    bare = {
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in of_protocols(PartyState)
        if not issubclass(kind, Staged) and f"{kind.__module__}.{kind.__qualname__}" not in NOT_STAGED
    }
    assert not {name for name in bare if not name.endswith("ghz.layer._State")}


@pytest.mark.parametrize("party", READS, ids=lambda party: party.__name__)
def test_every_public_method_is_a_stage_or_reads(party: type) -> None:
    public = {name for name in dir(party) if not name.startswith("_") and callable(getattr(party, name))}
    stages = {name for name in public if hasattr(getattr(party, name), "stage")}
    assert public - stages == READS[party]
    assert stages or party in {GroupMember, GroupServer}


# --- whole protocols -----------------------------------------------------------------------------------------------


def aggregated(layer: Any, n: int = 4) -> Callable[[], object]:
    def play() -> object:
        report = run_round(layer, n_clients=n, n_params=3)
        assert report.status == "sum", report.reason
        return report

    return play


def bb84() -> object:
    config = BB84Config(
        pulses=400_000, expected=FibreChannel(distance_km=5), detector=DetectorModel(efficiency=0.5)
    )
    secrets = {f"{name}_secrets": SeededSecrets(1, name) for name in ("alice", "bob")}
    result = run_bb84(config, seed=1, **secrets)
    assert result.key_length > 0, result.abort_reason
    return result


CIRCUIT = Circuit(
    n_qubits=2,
    gates=(
        Gate("RY", (0,), (Angle.feature(0),)),
        Gate("CNOT", (0, 1)),
        Gate("RZ", (1,), (Angle.weight(0),)),
        Gate("RX", (0,), (Angle.weight(0),)),
    ),
    observables=(pauli_z(0, 2), pauli_z(1, 2)),
    n_weights=1,
    n_features=1,
)


def blind(**how: Any) -> Callable[[], object]:
    def play() -> object:
        executor = Shots(shots=4, tests=4, seed=1, secrets=SeededSecrets(1), batch=4, **how)
        return blind_expectations(CIRCUIT, [0.1], [0.2], executor=executor)

    return play


def padded(mode: Any) -> Callable[[], object]:
    def play() -> object:
        executor = Homomorphic(shots=4, seed=1, mode=mode, secrets=SeededSecrets(1))
        return homomorphic_expectations(CIRCUIT, np.array([0.1]), np.array([0.2]), executor=executor)

    return play


PLAYS: dict[str, Callable[[], object]] = {
    "masked": aggregated(Masked()),
    "secagg": aggregated(SecAgg()),
    "secagg ml-kem-768": aggregated(SecAgg(agreement="ml-kem-768", signature="ml-dsa-65")),
    "ddp": aggregated(Ddp(target_epsilon=8.0)),
    "validated": aggregated(Validated(max_norm=4.0)),
    "validated-groups": aggregated(ValidatedGroups(groups=2, min_groups=2), 6),
    "he-bfv": aggregated(HeBfv()),
    "he-ckks": aggregated(HeCkks(mode="released", precision=1e-2, largest=128.0)),
    "he-masked": aggregated(HeMasked()),
    "he-threshold": aggregated(HeThreshold()),
    "ghz": aggregated(Ghz(shots=4, tests=20)),
    "bb84": bb84,
    "blind": blind(),
    "line": blind(client=QlineClients(helpers=(SeededSecrets(2), SeededSecrets(3)))),
    "padded deferred": padded("deferred"),
    "padded interactive": padded("interactive"),
}
PLAYED: dict[str, set[type]] = {
    "masked": {MaskedClient},
    "secagg": {Client, Server},
    "secagg ml-kem-768": {Client, Server, ClientState, ServerState},
    "ddp": {DdpClient, Server},
    "validated": {ProvingClient, Client, Server},
    "validated-groups": {Client, Server, Drawing},
    "he-bfv": {HeClient, HeServer},
    "he-ckks": {ReleaseClient, HeServer},
    "he-masked": {MaskingClient, HeServer},
    "he-threshold": {ThresholdClient, ThresholdServer},
    "blind": {BlindClient, QuantumServer},
    "padded deferred": {PadClient, PadServer},
    "padded interactive": {PadClient, PadServer},
    "bb84": {Alice, Bob, AlicePost, BobPost, CascadeParty},
    "ghz": {GhzClient, GhzServer},
    "line": {BlindClient, QuantumServer, Masks, LineClient},
}


@dataclass(kw_only=True)
class Call:
    """One stage that a party passed in an honest run."""

    method: Any
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.method.__name__)

    @property
    def node(self) -> Any:
        """The item, where the stage is for items of a batch or a set-up: its first argument."""
        each = self.method.stage.each
        return self.args[0] if each in {"node", "author", "other", "index"} else None


class Recorder:
    """Follows every party of a run, and tries what the guard must refuse.

    Args:
        script: What each party does in an honest run, from an earlier recorder; nothing is tried without it.
    """

    def __init__(self, script: list[list[Call]] | None = None) -> None:
        self.script = script
        self.parties: list[Staged] = []
        self.done: list[list[Call]] = []
        self.tried: Counter[type] = Counter()
        self._depth = 0

    def follow(self, call: Call, party: Staged) -> Any:
        place = next((i for i, known in enumerate(self.parties) if known is party), len(self.parties))
        if place == len(self.parties):
            self.parties.append(party)
            self.done.append([])
        if self._depth == 0:
            self._too_early(place, call)
        self.done[place].append(call)
        self._depth += 1
        try:
            result = call.method(party, *call.args, **call.kwargs)
        finally:
            self._depth -= 1
        if self._depth == 0:
            self._again(place)
        return result

    def _too_early(self, place: int, now: Call) -> None:
        """What comes later in this pass, before its time."""
        if self.script is None:
            return
        for later in self.script[place][len(self.done[place]) + 1 :]:
            if later.method.stage.opens:
                break
            of_others = now.node is not None and later.node is not None and later.node != now.node
            if later.name != now.name and not of_others and (now.name, later.name) not in INDEPENDENT:
                self._refused(place, later, f"before {now}")

    def _again(self, place: int) -> None:
        """What was done in this pass, once more, with the arguments that it was done with."""
        if self.script is None:
            return
        done = self.done[place]
        start = max((i for i, call in enumerate(done) if call.method.stage.opens), default=0)
        for call in done[start:]:
            if not call.method.stage.opens or call.method.stage.each is not None:
                self._refused(place, call, "again")

    def _refused(self, place: int, call: Call, when: str) -> None:
        party = self.parties[place]
        self.tried[type(party)] += 1
        try:
            call.method(party, *call.args, **call.kwargs)
        except OutOfOrder:
            return
        pytest.fail(f"{type(party).__name__} did {call.name} {when}")


INDEPENDENT = {
    ("announce", "learn"),
    ("announce", "hear"),
    ("link", "measure"),
    ("settle", "reply"),
    ("tag", "check_tag"),
    ("check_tag", "tag"),
}
"""Pairs of stages of which neither rests on the other."""


def all_parties(kind: type[Any] = Staged) -> Iterator[type[Any]]:
    for below in kind.__subclasses__():
        yield below
        yield from all_parties(below)


@contextmanager
def followed(recorder: Recorder) -> Iterator[None]:
    def wrap(method: Any) -> Any:
        @wraps(method)
        def call(self: Staged, *args: Any, **kwargs: Any) -> Any:
            return recorder.follow(Call(method=method, args=args, kwargs=kwargs), self)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for kind in set(all_parties()):
            for name, method in list(vars(kind).items()):
                if hasattr(method, "stage"):
                    patch.setattr(kind, name, wrap(method))
        yield


@pytest.mark.parametrize("protocol", PLAYS)
def test_nothing_is_done_twice_or_before_its_time(protocol: str) -> None:
    first = Recorder()
    with followed(first):
        PLAYS[protocol]()
    second = Recorder(first.done)
    with followed(second):
        PLAYS[protocol]()
    assert second.tried.total() > 15
    assert PLAYED.get(protocol, set()) <= set(second.tried)
