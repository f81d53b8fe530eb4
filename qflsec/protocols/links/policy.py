"""The policy of QKD links: a one-time pad where there is key enough, AES-256 where there is not.

The choice is made before a run, for all its links and both directions, from public numbers: what a run
sends and what each direction of a link has been given. So the ledger can state which of the two a run used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import ConfigError, DefenseCard, Secrets, Source, register
from qflsec.federation import Identity, Setup
from qflsec.protocols.links.budget import Traffic, aes_bits, pad_bits
from qflsec.protocols.links.one_time_pad import OneTimePadLink
from qflsec.protocols.links.qkd import QkdEnd, QkdLink
from qflsec.protocols.links.qkd_aes import QkdAesLink
from qflsec.protocols.links.qkd_ledger import choice_rows
from qflsec.protocols.links.sealed_epochs import check_rekeying

__all__ = ["LinkPlan", "QkdPolicyLink"]

Cipher = Literal["one-time pad", "AES-256-GCM"]


@dataclass(frozen=True, kw_only=True)
class LinkPlan:
    """What the policy chose for a run, and why.

    Attributes:
        cipher: What it chose.
        pad_bits: Key that a one-time pad takes in each direction of a link.
        aes_bits: Key that AES-256 takes.
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
        short = ", so the run will stop" if self.aes_bits > self.budget_bits else ""
        return (
            f"AES-256-GCM: a one-time pad would take {self.pad_bits:,} bits of key for each direction of a link, "
            f"which has {self.budget_bits:,}; AES takes {self.aes_bits:,}{short}"
        )


@register("layer", "qkd-link")
@dataclass(frozen=True, kw_only=True)
class QkdPolicyLink(QkdLink):
    """One-time pad or AES-256-GCM under QKD keys, whichever the key budget allows.

    Attributes:
        bytes_per_parameter: Of the largest message: 4 for plain updates, 8 for masked ones, more for
            ciphertexts.
        rekey_messages: With AES, messages of a direction under one key.
        rekey_bytes: With AES, bytes of a direction under one key.

    Raises:
        ConfigError: A value is out of range.
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

    bytes_per_parameter: int = 8
    rekey_messages: int = 1024
    rekey_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rekeying(self.rekey_messages, self.rekey_bytes)
        if self.bytes_per_parameter < 1:
            raise ConfigError(
                "'bytes_per_parameter' is too small", got=self.bytes_per_parameter, expected="1 or more"
            )

    def plan(self, *, n_params: int, rounds: int) -> LinkPlan:
        """The choice for a run.

        Args:
            n_params: The number of parameters.
            rounds: The number of rounds.
        """
        traffic = Traffic.of_run(
            n_params=n_params, rounds=rounds, bytes_per_parameter=self.bytes_per_parameter
        )
        pad = pad_bits(traffic, key_bits=self.key_bits)
        aes = aes_bits(
            traffic,
            key_bits=self.key_bits,
            rekey_messages=self.rekey_messages,
            rekey_bytes=self.rekey_bytes,
        )
        cipher: Cipher = "one-time pad" if pad <= self.budget_bits else "AES-256-GCM"
        return LinkPlan(cipher=cipher, pad_bits=pad, aes_bits=aes, budget_bits=self.budget_bits)

    def explain(self, *, n_params: int, rounds: int) -> str:
        """The choice for a run in a sentence."""
        return self.plan(n_params=n_params, rounds=rounds).sentence

    def chosen(self, *, n_params: int, rounds: int) -> QkdLink:
        """The link that the policy stands for in a run."""
        common: dict[str, Any] = {
            "source": self.source,
            "directory": self.directory,
            "key_bits": self.key_bits,
            "budget_bits": self.budget_bits,
            "eps_sec": self.eps_sec,
            "eps_cor": self.eps_cor,
            "eps_auth": self.eps_auth,
        }
        if self.plan(n_params=n_params, rounds=rounds).cipher == "one-time pad":
            return OneTimePadLink(**common)
        return QkdAesLink(**common, rekey_messages=self.rekey_messages, rekey_bytes=self.rekey_bytes)

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links, of the chosen kind."""
        return self.chosen(n_params=setup.n_params, rounds=setup.rounds).open(setup, identity, secrets)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """The choice, and what the chosen links hide from this observer."""
        training = context.training
        chosen = self.chosen(n_params=training.n_params, rounds=training.rounds)
        said = self.explain(n_params=training.n_params, rounds=training.rounds)
        return choice_rows(self.card.name, said, chosen.ledger(context))
