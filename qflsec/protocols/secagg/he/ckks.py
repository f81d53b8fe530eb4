"""CKKS on real numbers: sums with a stated error, read by clients alone or released to the server under a guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import (
    ConfigError,
    DefenseCard,
    IncompatibleStack,
    ProtocolAbort,
    Secrets,
    Source,
    UpdateError,
    register,
)
from qflsec.federation import Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.federation.layers import Leaves
from qflsec.protocols.key_agreement import key_exchange
from qflsec.protocols.secagg.he.guard import Estimate, Flooding, Guard, apply_guard, noise_bound
from qflsec.protocols.secagg.he.layer import HeLayer
from qflsec.protocols.secagg.he.ledger import he_rows, released_rows
from qflsec.protocols.secagg.he.parameters import CkksParameters, ckks_parameters
from qflsec.protocols.secagg.he.release import ReleaseClient, ask_release, observed_releases
from qflsec.protocols.secagg.he.sizes import HeSizes
from qflsec.protocols.secagg.he.state import Handle, HeClient, HeServer, refused
from qflsec.threat import Item, LaneFacts, Party, Payload, Traffic, Workload

__all__ = ["HeCkks"]


@register("layer", "he-ckks")
@dataclass(frozen=True, kw_only=True)
class HeCkks(HeLayer):
    """Approximate homomorphic sums; clients decrypt, and in one mode release the sum to the server.

    Attributes:
        mode: ``"clients-decrypt"``: the server gets no decryption of any sum, and so no model that it could
            evaluate. ``"released"``: the first client decrypts each sum, guards it, and gives it to the server.
        precision: The largest error of a coordinate of the weighted sum, the guard's noise included.
        largest: The largest absolute weighted coordinate, or weight, of a client.
        guard: What is done to a released sum. ``"flooding"``: Gaussian noise with a proof. ``"rounding"`` and
            ``"tiny-noise"``: heuristics that block the known attack and promise nothing. ``"none"``: the key is
            given away; for the lab.
        releases: How many sums are released in a session; the client refuses more.
        statistical_bits: Bits of statistical security of all releases together, for ``"flooding"``.
        estimate: The bound on the noise that is drowned: ``"heuristic"`` or ``"worst-case"``.
        step: The grid of ``"rounding"``, and the standard deviation of ``"tiny-noise"``.
        unsafe: Must be set for ``guard="none"``.

    Raises:
        ConfigError: A value is out of range, or the precision does not allow the guard.
    """

    card = DefenseCard(
        name="he-ckks",
        idea="Clients encrypt real numbers under one key that they share; the server adds ciphertexts that it "
        "cannot read.",
        source=Source(
            paper="Cheon, Kim, Kim and Song: Homomorphic encryption for arithmetic of approximate numbers, "
            "ASIACRYPT 2017; by TenSEAL, Benaissa et al., arXiv:2104.03152",
            year=2017,
            where="section 3.4 (the scheme, addition)",
        ),
        claim="The server and the network read no update, and where clients decrypt no sum and no model before the "
        "final one is published, provided that no client colludes with them. Where sums are released under "
        "Gaussian flooding, the stated number of them tells nothing of the key beyond the sums, to the stated bits.",
        assumption="computational",
        hides="updates from the server and the network; sums and intermediate models as well "
        "unless they are released",
        does_not=(
            "It hides nothing once one client colludes: each holds the key that opens all updates.",
            "Without flooding, two decrypted sums give the key to a holder of their ciphertexts.",
            "Rounding and tiny noise are heuristics: they block the known attack of Li and Micciancio (2021).",
            "Publishing the final model in single precision is no better.",
            "It does not stop a server that deviates and has one client's ciphertext released.",
            "Nor does it stop one that has a ciphertext of its own making released, to learn of the key.",
            "It does not hide who takes part, sizes, times, or numbers of records, which are taken as public.",
            "It does not bound what a client submits.",
        ),
        cost="about 59 kB for every 2048 parameters at quantum-128, in each direction; 0.2 MB of key for each client; "
        "flooding takes a larger ring or precision",
    )
    protocol = "qflsec/he-ckks/1"

    mode: Literal["clients-decrypt", "released"] = "clients-decrypt"
    precision: float = 1e-4
    largest: float = 4096.0
    guard: Guard = "flooding"
    releases: int = 10
    statistical_bits: int = 30
    estimate: Estimate = "heuristic"
    step: float = 1e-6
    unsafe: bool = False

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, _MODES)
        _check_choice("guard", self.guard, get_args(Guard))
        _check_choice("estimate", self.estimate, get_args(Estimate))
        for name in ("precision", "largest", "step"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name!r} must be positive", got=getattr(self, name))
        for name, low, high in (("releases", 1, 1_000_000), ("statistical_bits", 10, 128)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{name!r} is out of range", got=getattr(self, name), expected=f"{low} to {high}"
                )
        if self.mode == "released" and self.guard == "none" and not self.unsafe:
            raise ConfigError(
                "sums of CKKS released without a guard give the secret key away",
                got='guard="none"',
                fix='use guard="flooding", or set unsafe=true to see the attack succeed in the lab',
            )
        super().__post_init__()
        self.parameters(2)

    @property
    def leaves(self) -> Leaves:  # type: ignore[override]  # what is left depends on the mode
        """The sum where it is released, else nothing."""
        return "sum" if self.mode == "released" else "nothing"

    def flooding(self, chosen: CkksParameters, n_clients: int, n_values: int) -> Flooding | None:
        """The flooding of released sums; None where there is none."""
        if self.mode != "released" or self.guard != "flooding":
            return None
        bound = noise_bound(chosen, n_clients, self.largest, self.estimate)
        return Flooding(bound=bound, n_values=n_values, releases=self.releases, bits=self.statistical_bits)

    def _added_error(self, chosen: CkksParameters, n_clients: int, n_values: int) -> float:
        flooding = self.flooding(chosen, n_clients, n_values)
        if flooding is not None:
            return flooding.error
        if self.mode == "released":
            return {"rounding": self.step / 2, "tiny-noise": 8 * self.step}.get(self.guard, 0.0)
        return 0.0

    def parameters(self, n_clients: int, n_values: int = 1) -> CkksParameters:
        """The parameters for a number of clients and of values of each.

        Raises:
            ConfigError: None fit.
        """
        return ckks_parameters(
            security=self.security,
            n_clients=n_clients,
            precision=self.precision,
            largest=self.largest,
            added_error=lambda chosen: self._added_error(chosen, n_clients, n_values),
        )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse runs of more rounds than sums may be released.

        Raises:
            IncompatibleStack: There are more.
        """
        if self.mode == "released" and pipeline.federation.rounds > self.releases:
            raise IncompatibleStack(
                f"'he-ckks' releases {self.releases} sums, but the pipeline has more rounds",
                got=f"{pipeline.federation.rounds} rounds",
                fix="raise 'releases', which takes more noise",
            )

    def check_room(self, n_clients: int, max_count: int, n_values: int = 1) -> None:
        """Refuse sessions whose sums could not be held.

        Raises:
            ConfigError: The largest weight does not fit, or no parameters do.
        """
        self.parameters(n_clients, n_values)
        if max_count > self.largest:
            raise ConfigError(
                f"'he-ckks' has no room for clients with up to {max_count} examples",
                got=f"largest={self.largest:g}",
                fix="raise 'largest'",
            )

    def new_context(self, n_clients: int, n_values: int = 1) -> Handle:
        """A fresh context with its secret key.

        Raises:
            ConfigError: No parameters fit.
        """
        import tenseal

        chosen = self.parameters(n_clients, n_values)
        context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            poly_modulus_degree=chosen.degree,
            coeff_mod_bit_sizes=list(chosen.sizes),
        )
        context.global_scale = 2.0**chosen.scale_bits
        return context

    def encrypt(
        self,
        context: Handle,
        update: torch.Tensor,
        weight: float,
        n_clients: int,
        *,
        secrets: Secrets,  # nothing is rounded here: the encoder's steps lie far below its noise
        checked: bool = True,
    ) -> tuple[list[bytes], torch.Tensor]:
        """Ciphertexts of a weighted update and its weight, and what whoever decrypts them reads.

        Raises:
            UpdateError: A number is not finite, the weight is negative, or a weighted coordinate is too large.
        """
        import tenseal

        with np.errstate(over="ignore", invalid="ignore"):
            values = np.append(update.detach().cpu().numpy().astype(np.float64), 1.0) * weight
        if not checked:
            most = self.parameters(n_clients, len(values)).largest_value
            values = np.clip(np.nan_to_num(values, nan=-most, posinf=most, neginf=-most), -most, most)
        elif not (np.isfinite(values).all() and weight >= 0 and np.abs(values).max() <= self.largest):
            raise UpdateError(
                "a weighted coordinate cannot be encrypted",
                got=f"{np.abs(values).max():.6g} with weight {weight:g}",
                expected=f"finite numbers up to {self.largest:g}",
                fix="raise 'largest', or clip updates first",
            )
        slots = self.parameters(n_clients, len(values)).degree // 2
        with refused("an update cannot be encrypted under the clients' key"):
            chunks = [
                bytes(tenseal.ckks_vector(context, values[start : start + slots].tolist()).serialize())
                for start in range(0, len(values), slots)
            ]
        read = update if checked else torch.from_numpy(values[:-1] / (weight or 1.0)).to(update)
        return chunks, torch.cat([read, torch.tensor([weight]).to(update)])

    def load(self, context: Handle, blob: bytes) -> Handle:
        """A ciphertext from bytes."""
        import tenseal

        return tenseal.ckks_vector_from(context, blob)

    def decrypt(
        self,
        context: Handle,
        blobs: Sequence[bytes],
        size: int,
        most: float,
    ) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight behind a sum; the weight is a whole number of examples.

        Raises:
            ProtocolAbort: The weight is impossible.
        """
        return _mean(self._decrypted(context, blobs, size), most)

    def _decrypted(self, context: Handle, blobs: Sequence[bytes], size: int) -> npt.NDArray[np.float64]:
        return np.asarray(self.opened_values(context, blobs, size))

    def sizes(self, load: Workload) -> HeSizes:
        """A ciphertext holds half as many numbers as the ring has coefficients."""
        degree = self.parameters(load.n_clients, load.n_params + 1).degree
        exchange = key_exchange(self.agreement)
        return HeSizes(degree=degree, per_ciphertext=degree // 2, ciphertext_bytes=exchange.ciphertext_bytes)

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """The key before the first round, then ciphertexts; numbers where sums are released."""
        return self.sizes(load).released(load) if self.mode == "released" else super().traffic(load, inner)

    def new_client(self, setup: Setup, identity: Identity, secrets: Secrets) -> HeClient:
        """A client's state."""
        if self.mode != "released":
            return super().new_client(setup, identity, secrets)
        exchange = key_exchange(self.agreement)
        return ReleaseClient(setup, identity, secrets, self.protocol, exchange, releases=self.releases)

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        """Where sums are released, have the first client open this one.

        Raises:
            ProtocolAbort: It refuses, or was not heard.
        """
        if self.mode == "released":
            ask_release(self, control, payloads, super().combine)
        return payloads

    def release(self, state: ReleaseClient, chunks: Sequence[bytes], participants: int) -> bytes:
        """The guarded sum, by the client that decrypts.

        Raises:
            ProtocolAbort: The sum is impossible.
        """
        n_clients, n_values = len(state.setup.clients), state.setup.n_params + 1
        values = self._decrypted(state.context, chunks, n_values)
        _mean(values, float(state.setup.max_count * participants))
        flooding = self.flooding(self.parameters(n_clients, n_values), n_clients, n_values)
        guarded = apply_guard(self.guard, values, state.secrets, flooding=flooding, step=self.step)
        return guarded.astype("<f8").tobytes()

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of the ciphertexts in an envelope of the server; where it was released, the numbers.

        Raises:
            ProtocolAbort: An envelope is not authentic, ciphertexts do not fit, or nothing was released.
        """
        if self.mode != "released":
            return super().combine(state, payloads, header)
        assert isinstance(state, HeServer)
        found = state.released.pop(header.round, None)
        if found is None:
            raise ProtocolAbort(f"no sum of round {header.round} was released")
        return found

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight.

        Raises:
            ProtocolAbort: The party cannot read the sum, or it is impossible.
        """
        if self.mode != "released":
            return super().reveal(state, combined, header)
        assert isinstance(state, HeServer)
        assert isinstance(combined, bytes)
        if len(combined) != 8 * (state.setup.n_params + 1):
            raise ProtocolAbort("a released sum has the wrong size")
        most = float(state.setup.max_count * len(header.participants))
        return _mean(np.frombuffer(combined, dtype="<f8").astype(np.float64), most)

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """Released sums, for whoever hears what the first client tells the server."""
        return observed_releases(items, facts) if self.mode == "released" else ()

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer."""
        if self.mode != "released":
            return he_rows(self.card.name, context, security=self.security, agreement=self.agreement)
        n_values = context.training.n_params + 1
        return released_rows(
            self.card.name,
            context,
            security=self.security,
            agreement=self.agreement,
            guard=self.guard,
            flooding=self.flooding(
                self.parameters(context.training.n_clients, n_values), context.training.n_clients, n_values
            ),
            estimate=self.estimate,
        )


_MODES = ("clients-decrypt", "released")


def _check_choice(name: str, got: str, known: Sequence[str]) -> None:
    if got not in known:
        raise ConfigError(f"unknown {name!r}", got=repr(got), expected=f"one of {', '.join(known)}")


def _mean(values: npt.NDArray[np.float64], most: float) -> tuple[torch.Tensor, float]:
    """The weighted mean and the weight behind a decrypted sum."""
    weight = float(values[-1])
    if not (np.isfinite(values).all() and 0.5 < weight <= most + 0.5):
        raise ProtocolAbort(
            "an encrypted sum opened to an impossible weight",
            got=f"{weight:g}",
            expected=f"up to {most:g}",
        )
    return torch.from_numpy(values[:-1] / weight), weight
