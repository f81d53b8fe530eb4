"""One session as a document: what the server saw, what it cost, what came of it, and what that is worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from qflsec.accounting import LedgerRow
from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks.server import ServerAttack
from qflsec.lab.worlds.delegation.session import Device, SessionOutcome
from qflsec.lab.worlds.pairs.text import attack_from_words
from qflsec.protocols.blind import blind_rows, harmless_rounds, soundness_error

__all__ = ["DELTA_BINS", "SessionReport", "server_attack_from_text"]

DELTA_BINS = 64
"""Bins of the chi-square test of the told angles."""
_LEAST_IN_A_BIN = 5
"""Angles expected in a bin from which a chi-square test means what it says."""
_ALIASES = {
    "flip": "flip-outcomes",
    "angles": "wrong-angles",
    "skip": "skip-entanglement",
    "random": "random-answers",
    "read": "read-delta",
    "guess": "guess-rounds",
    "laser": "weak-coherent",
}


def server_attack_from_text(text: str) -> ServerAttack:
    """An attack such as ``flip:0.2``: its name or first word, and the fraction of attacked rounds where it is active.

    Raises:
        UnknownName: There is no such attack.
        ConfigError: It is none by the quantum server, or a parameter is impossible.
    """
    return attack_from_words(
        text,
        ServerAttack,  # type: ignore[type-abstract]  # only asked for what it is a subclass of
        words="one by the quantum server",
        aliases=_ALIASES,
    )


@dataclass(frozen=True, kw_only=True)
class SessionReport:
    """A session and what is said of it.

    Attributes:
        outcome: The session.
        device: The client's side.
        attack: What the server did.
        corrupted_fraction: The fraction of the shots that may be corrupted, for the soundness.
        seed: The seed of nature.
        cpu_seconds: Processor time.
    """

    outcome: SessionOutcome
    device: Device
    attack: ServerAttack | None
    corrupted_fraction: float
    seed: int
    cpu_seconds: float

    def rows(self) -> tuple[LedgerRow, ...]:
        """The ledger's rows, as far as this client keeps what they promise."""
        outcome, device = self.outcome, self.device
        first, *rest = blind_rows(
            [outcome.result],
            embedding=device.config.embedding,
            corrupted_fraction=self.corrupted_fraction,
            seeded=outcome.seeded,
        )
        if device.pads != "all":
            note = "a control that leaves pads out: nothing is promised"
            return (replace(first, guarantee="not covered", statement=note, assumption="none", note=note),)
        if device.source is not None:
            share = device.source.leaked(device.line)
            statement = (
                f"{share:.1%} of the qubits reach the server more than once, as pulses of several photons"
            )
            note = (
                "blindness is proved for single photons; the distillation of arXiv:1108.5571 is not done here"
            )
            return (
                replace(first, guarantee="not covered", statement=statement, assumption="none", note=note),
            )
        return (first, *rest)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, with units in the names."""
        outcome, device = self.outcome, self.device
        source = device.source
        return {
            "executor": "shots",
            "embedding": device.config.embedding,
            "angle_grid_bits": device.config.grid.bits,
            "pads": device.pads,
            "source_mean_photons_per_pulse": None if source is None else source.mean_photons,
            "source_line_transmittance": None if source is None else source.transmittance,
            "depolarising": device.depolarising,
            "attack": None if self.attack is None else self.attack.to_config(),
            "seed": self.seed,
            "seeded": outcome.seeded,
            "simulated": True,
            "server_sees": self._seen(),
            "cost": {**_cost(outcome), "cpu_seconds": self.cpu_seconds},
            "tests": self._tests(),
            "accepted": outcome.accepted,
            "abort_reason": None if outcome.accepted else _reason(outcome),
            "result": {
                "estimate": outcome.estimate.tolist() if outcome.accepted else None,
                "standard_deviation": outcome.noise.tolist(),
                "exact": outcome.exact.tolist(),
            },
            "soundness": self._soundness(),
            "judgement": self._judgement(),
            "ledger": [row.to_dict() for row in self.rows()],
        }

    def _seen(self) -> dict[str, Any]:
        outcome = self.outcome
        turns = np.bincount((outcome.deltas * DELTA_BINS).astype(np.int64), minlength=DELTA_BINS)
        enough = turns.sum() >= _LEAST_IN_A_BIN * DELTA_BINS
        return {
            "nodes": outcome.nodes,
            "edges": outcome.edges,
            "graph": "the circuit's own" if self.device.config.embedding == "ansatz" else "a brickwork",
            "rounds": outcome.counts.rounds,
            "angles_told": int(turns.sum()),
            "angles_uniform_p_value": float(stats.chisquare(turns).pvalue) if enough else None,
            "angles_uniform_bins": DELTA_BINS,
        }

    def _tests(self) -> dict[str, Any] | None:
        outcome = self.outcome
        counts = outcome.counts
        if not counts.tests:
            return None
        rate = clopper_pearson(outcome.failures, counts.tests)
        return {
            "tests": counts.tests,
            "failed": outcome.failures,
            "threshold": counts.threshold,
            "failure_rate": rate.value,
            "failure_rate_interval": [rate.low, rate.high],
            "failure_rate_theory": outcome.detection,
            "graph_colours": outcome.colours,
        }

    def _soundness(self) -> dict[str, Any] | None:
        """None where the client does not prepare what the theory takes for granted: one secret qubit each."""
        outcome = self.outcome
        if self.device.pads != "all" or self.device.source is not None:
            return None
        harmless = harmless_rounds(outcome.counts.shots, self.corrupted_fraction)
        bound = outcome.bound
        tested = outcome.counts.tests > 0
        return {
            "corrupted_fraction": self.corrupted_fraction,
            "soundness_error": soundness_error(outcome.counts, harmless=harmless) if tested else 1.0,
            "bias_bound": bound.bias,
            "bias_bound_error": bound.error,
            "status": bound.status,
            "because": bound.because,
        }

    def _judgement(self) -> dict[str, Any]:
        outcome = self.outcome
        return {
            "error": outcome.error,
            "error_beyond_shot_noise": outcome.noticeable,
            "wrong_result_accepted": outcome.wrong,
            "qubits_exposed_fraction": outcome.exposed,
            **{
                f"server_learned_{name}": None if name not in outcome.scores else asdict(outcome.scores[name])
                for name in ("angles", "outcomes", "rounds")
            },
        }


def _reason(outcome: SessionOutcome) -> str:
    counts = outcome.counts
    return f"{outcome.failures} of {counts.tests} tests failed, at most {counts.threshold} may"


def _cost(outcome: SessionOutcome) -> dict[str, int]:
    costs = outcome.costs
    return {
        "rounds": costs.rounds,
        "computation_rounds": costs.rounds - costs.tests,
        "test_rounds": costs.tests,
        "qubits_sent": costs.qubits,
        "qubits_live_at_most": costs.live_qubits,
        "cz_gates": costs.entangling,
        "angles_sent_bits": costs.angle_bits,
        "replies_bits": costs.reply_bits,
    }
