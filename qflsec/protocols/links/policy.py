"""The policy of QKD links: a one-time pad where there is key enough, AES-256 where there is not.

The choice is made before a run, for all its links and both directions, from public numbers: what a run
sends and what each direction of a link has been given. So the ledger can state which of the two a run used.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, Secrets, Source, register
from qflsec.federation import Identity, Pipeline, Setup
from qflsec.protocols.links.one_time_pad import OneTimePadLink
from qflsec.protocols.links.qkd import QkdEnd, QkdLink
from qflsec.protocols.links.qkd_aes import QkdAesLink
from qflsec.protocols.links.qkd_ledger import choice_rows
from qflsec.protocols.links.sealed_epochs import EpochLink
from qflsec.threat import Traffic

__all__ = ["LinkPlan", "QkdPolicyLink"]

Cipher = Literal["one-time pad", "AES-256-GCM"]


@dataclass(frozen=True, kw_only=True)
class LinkPlan:
    """What the policy chose for a run, and why.

    Attributes:
        cipher: What it chose.
        pad_bits: Key that a one-time pad takes in each direction of a link, at most.
        aes_bits: Key that AES-256 takes, likewise.
        budget_bits: Key that there is.
    """

    cipher: Cipher
    pad_bits: int
    aes_bits: int
    budget_bits: int

    @property
    def sentence(self) -> str:
        """The choice in words."""
        if self.cipher == "one-time pad":
            return (
                f"one-time pad: each direction of a link takes up to {self.pad_bits:,} bits of key and has "
                f"{self.budget_bits:,}"
            )
        return (
            f"AES-256-GCM: a one-time pad would take {self.pad_bits:,} bits of key for each direction of a link, "
            f"which has {self.budget_bits:,}; AES takes up to {self.aes_bits:,}"
        )


@register("layer", "qkd-link")
@dataclass(frozen=True, kw_only=True)
class QkdPolicyLink(EpochLink):
    """One-time pad or AES-256-GCM under QKD keys, whichever the key budget allows.

    The limits on messages and bytes under one key hold where it is AES.
    """

    card = DefenseCard(
        name="qkd-link",
        idea="A one-time pad where the QKD keys suffice for the whole run, else AES-256-GCM under QKD keys.",
        source=Source(
            paper="Shannon, Bell Syst. Tech. J. 28, 656 (1949) for the pad; ETSI GS QKD 014 V1.1.1 for the keys",
            year=2019,
            where="clause 5 of the second (sizes and numbers of keys)",
        ),
        claim="The network reads no message and alters none unnoticed: with a one-time pad whatever its computing "
        "power, with AES-256 while AES holds; the ledger says which; this quantum channel is simulated.",
        assumption="computational",
        hides="updates and models from the network",
        does_not=(
            "It hides nothing from the server or from the receiver of a message.",
            "It does not hide sizes, times and who takes part.",
            "It does not change the cipher during a run.",
            "It does not keep a run alive under attack or without key.",
        ),
        cost="as otp-link or as qkd-aes-link",
    )

    def plan(self, traffic: Traffic | None) -> LinkPlan:
        """The choice for a run.

        Args:
            traffic: What the links get to carry.

        Raises:
            IncompatibleStack: That cannot be told.
        """
        pad, aes = self.pads.planned_bits(traffic), self.ciphers.planned_bits(traffic)
        cipher: Cipher = "one-time pad" if pad <= self.budget_bits else "AES-256-GCM"
        return LinkPlan(cipher=cipher, pad_bits=pad, aes_bits=aes, budget_bits=self.budget_bits)

    @property
    def pads(self) -> OneTimePadLink:
        """The links where they are one-time pads."""
        return OneTimePadLink(**self._common)

    @property
    def ciphers(self) -> QkdAesLink:
        """The links where they are AES-256-GCM."""
        return QkdAesLink(**self._common, rekey_messages=self.rekey_messages, rekey_bytes=self.rekey_bytes)

    @property
    def _common(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(OneTimePadLink)}

    def chosen(self, traffic: Traffic | None) -> QkdLink:
        """The link that the policy stands for in a run.

        Raises:
            IncompatibleStack: What it gets to carry cannot be told.
        """
        return self.pads if self.plan(traffic).cipher == "one-time pad" else self.ciphers

    def planned_bits(self, traffic: Traffic | None) -> int:
        """What the chosen link may take."""
        return self.chosen(traffic).planned_bits(traffic)

    def sealed_bytes(self, n_bytes: int) -> int:
        """What the larger of the two makes of it."""
        return max(self.pads.sealed_bytes(n_bytes), self.ciphers.sealed_bytes(n_bytes))

    def remarks(self, pipeline: Pipeline, traffic: Traffic | None = None) -> tuple[str, ...]:
        """The choice in a sentence."""
        return (f"{self.card.name!r}: {self.plan(traffic).sentence}",)

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links, of the chosen kind."""
        return self.chosen(setup.traffic).open(setup, identity, secrets)

    def new_end(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """That of the chosen kind."""
        return self.chosen(setup.traffic).new_end(setup, identity, secrets)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """The choice, and what the chosen links hide from this observer."""
        traffic = context.traffic.get(self)
        chosen = self.chosen(traffic)
        rows = chosen.ledger(replace(context, traffic={chosen: traffic}))
        return choice_rows(self.card.name, self.plan(traffic).sentence, rows)
