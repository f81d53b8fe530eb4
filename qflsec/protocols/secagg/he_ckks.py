"""CKKS on real numbers: sums with a stated error that only clients can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, ProtocolAbort, Source, UpdateError, register
from qflsec.protocols.secagg.he_layer import HeLayer
from qflsec.protocols.secagg.he_parameters import CkksParameters, ckks_parameters
from qflsec.protocols.secagg.he_state import Handle

__all__ = ["HeCkks"]


@register("layer", "he-ckks")
@dataclass(frozen=True, kw_only=True)
class HeCkks(HeLayer):
    """Approximate homomorphic sums; clients decrypt.

    Attributes:
        mode: ``"clients-decrypt"``: the server gets no decryption of any sum.
        precision: The largest error of a coordinate of the weighted sum.
        largest: The largest absolute weighted coordinate, or weight, of a client.

    Raises:
        ConfigError: A value is out of range.
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
        claim="The server and the network read no update, no sum and no model before the final one is "
        "published, provided that no client colludes with them and none shows them a decrypted sum.",
        assumption="computational",
        hides="updates, numbers of examples, sums and intermediate models from the server and the network",
        does_not="hide anything once one client colludes: each holds the key that opens all updates; stay secret if "
        "decrypted sums reach whoever holds their ciphertexts (Li and Micciancio 2021: the key follows from two "
        "of them in double precision; that the final model is published in single precision defeats that attack "
        "and proves nothing); hide who takes part, sizes and times; bound what a client submits",
        cost="about 59 kB for every 2048 parameters at quantum-128, in each direction; 0.2 MB of key for each client",
    )
    protocol = "qflsec/he-ckks/1"

    mode: Literal["clients-decrypt"] = "clients-decrypt"
    precision: float = 1e-4
    largest: float = 4096.0

    def __post_init__(self) -> None:
        if self.mode != "clients-decrypt":
            raise ConfigError("unknown 'mode'", got=repr(self.mode), expected="'clients-decrypt'")
        for name in ("precision", "largest"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name!r} must be positive", got=getattr(self, name))
        super().__post_init__()
        self.parameters(2)

    def parameters(self, n_clients: int) -> CkksParameters:
        """The parameters for a number of clients.

        Raises:
            ConfigError: None fit.
        """
        return ckks_parameters(
            security=self.security, n_clients=n_clients, precision=self.precision, largest=self.largest
        )

    def check_room(self, n_clients: int, max_count: int) -> None:
        """Refuse sessions whose sums could not be held.

        Raises:
            ConfigError: The largest weight does not fit, or no parameters do.
        """
        self.parameters(n_clients)
        if max_count > self.largest:
            raise ConfigError(
                f"'he-ckks' has no room for clients with up to {max_count} examples",
                got=f"largest={self.largest:g}",
                fix="raise 'largest'",
            )

    def new_context(self, n_clients: int) -> Handle:
        """A fresh context with its secret key.

        Raises:
            ConfigError: No parameters fit.
        """
        import tenseal

        chosen = self.parameters(n_clients)
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
    ) -> tuple[list[bytes], torch.Tensor]:
        """Ciphertexts of a weighted update and its weight, and what whoever decrypts them reads.

        Raises:
            UpdateError: A number is not finite, the weight is negative, or a weighted coordinate is too large.
        """
        import tenseal

        values = np.append(update.detach().cpu().numpy().astype(np.float64), 1.0) * weight
        if not (np.isfinite(values).all() and weight >= 0 and np.abs(values).max() <= self.largest):
            raise UpdateError(
                "a weighted coordinate cannot be encrypted",
                got=f"{np.abs(values).max():.6g} with weight {weight:g}",
                expected=f"finite numbers up to {self.largest:g}",
                fix="raise 'largest', or clip updates first",
            )
        slots = self.parameters(n_clients).degree // 2
        chunks = [
            bytes(tenseal.ckks_vector(context, values[start : start + slots].tolist()).serialize())
            for start in range(0, len(values), slots)
        ]
        return chunks, torch.cat([update, torch.tensor([weight]).to(update)])

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
        values = np.asarray([value for blob in blobs for value in self.load(context, blob).decrypt()])[:size]
        weight = float(values[-1])
        if not 0.5 < weight <= most + 0.5:
            raise ProtocolAbort(
                "an encrypted sum opened to an impossible weight",
                got=f"{weight:g}",
                expected=f"up to {most:g}",
            )
        return torch.from_numpy(values[:-1] / weight), weight
