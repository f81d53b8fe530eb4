"""Attack against countermeasure: is it noticed, is a key claimed all the same, and is the claim true?

The scorer sees every party's half, which no party and no adversary does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve, KeyGuess
from qflsec.attacks.channel.countermeasures import MOST_INJECTED, equip, leakage_term
from qflsec.attacks.channel.trojan_horse import reflected_photons
from qflsec.base import SeededSecrets, finite
from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.protocols.bb84.asymptotic import binary_entropy
from qflsec.protocols.bb84.bits import Bits
from qflsec.protocols.bb84.channel import (
    coherent_error_gain,
    coherent_gain,
    photon_error_gain,
    photon_gain,
)
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.decoy_length import DecoyCounts, DecoySource, lim_bounds, lim_length
from qflsec.protocols.bb84.key_length import sampling_deviation, tomamichel_length
from qflsec.protocols.bb84.quantum import QuantumPhase, run_quantum
from qflsec.protocols.bb84.sifting import BobSifted
from qflsec.protocols.bb84.source import WeakCoherentSource

__all__ = ["ChannelRules", "channel_outcome", "eve_information"]


@finite
@dataclass(frozen=True, kw_only=True)
class ChannelRules:
    """How Alice and Bob judge a run.

    Attributes:
        f_ec: Efficiency of the error correction.
        eps_sec: Secrecy of the key.
        eps_cor: Correctness of the key.
        deviations: How surely an honest run passes each check of an error rate or a gain: as surely as a normal
            variable stays within so many standard deviations, which at 5 it leaves with probability 5.7e-7. The
            limits are those of the binomial and the Poisson law, so that they hold for few counts.
    """

    f_ec: float = 1.16
    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    deviations: float = 5.0

    @property
    def tail(self) -> float:
        """The probability with which an honest count may lie beyond a limit on one side."""
        return float(stats.norm.sf(self.deviations))


def eve_information(guess: KeyGuess, key_bits: Bits) -> float:
    """Mutual information of the adversary's knowledge with the raw key, measured.

    The key is cut by the adversary's own confidence; in each part the error rate e of its guesses is
    counted, and a bit of that part is worth 1 - h(e).

    Units:
        Bits per raw-key bit.
    """
    total = 0.0
    for confidence in np.unique(guess.confidence):
        part = guess.confidence == confidence
        wrong = float(np.mean(guess.bits[part] != key_bits[part]))
        total += float(np.mean(part)) * (1 - binary_entropy(min(wrong, 1 - wrong)))
    return total


def channel_outcome(
    attack: ChannelAttack | None,
    countermeasures: Iterable[str],
    *,
    config: QuantumConfig,
    seed: int,
    rules: ChannelRules | None = None,
    seeded: bool = False,
) -> ChannelOutcome:
    """Run one attack against one set of countermeasures.

    Args:
        attack: The attack; None for the honest line.
        countermeasures: Names of :data:`~qflsec.attacks.channel.countermeasures.COUNTERMEASURES`.
        config: The line without them.
        seed: Of the physics and of the adversary.
        rules: How Alice and Bob judge the run.
        seeded: Whether the parties' secrets too come from the seed, so that the row can be repeated.
    """
    rules = rules or ChannelRules()
    names = tuple(sorted(countermeasures))
    config = equip(config, names)
    phase = run_quantum(
        config,
        seed=seed,
        alice_secrets=SeededSecrets(seed, "bb84", "alice") if seeded else None,
        bob_secrets=SeededSecrets(seed, "bb84", "bob") if seeded else None,
        attack=attack,
    )
    eve = phase.eve if isinstance(phase.eve, ChannelEve) else None
    partner = phase.bob if eve is None else eve.partner(phase.bob)
    checks = _checks(phase, partner, names, rules)
    leak_ec = _leak(phase, partner, rules)
    length = 0 if checks else max(0, _claim(phase, partner, leak_ec, names, rules))
    if not checks and not length:
        checks = ("no-key-left",)
    known = 0.0 if eve is None else eve_information(eve.guess(phase.transcript), phase.alice.key_bits)
    n = phase.counts.n_key
    return ChannelOutcome(
        attack="none" if attack is None else attack.card.name,
        countermeasures=names,
        detected_by=checks,
        n_key=n,
        qber=_rate(phase.alice.test_bits, partner.test_bits),
        key_length=length,
        eve_information=known,
        secret_bits=n * (1 - known) - leak_ec,
        seeded=seeded,
    )


def _rate(a: Bits, b: Bits) -> float:
    return float(np.mean(a != b)) if a.size else math.nan


def _expected_qber(config: QuantumConfig) -> float:
    """The error rate that Alice and Bob expect of an honest line."""
    line = (config.channel, config.detector)
    source = config.source
    if not isinstance(source, WeakCoherentSource):
        return photon_error_gain(1, *line) / photon_gain(1, *line)
    pairs = list(zip(source.stated_probabilities, source.intensities, strict=True))
    wrong = sum(p * coherent_error_gain(mean, *line) for p, mean in pairs)
    return wrong / sum(p * coherent_gain(mean, *line) for p, mean in pairs)


def _tolerance(phase: QuantumPhase, rules: ChannelRules) -> float:
    """The error rate above which the run aborts."""
    q = _expected_qber(phase.config)
    n_test = max(1, phase.counts.n_test)
    return min(0.49, float(stats.binom.isf(rules.tail, n_test, q)) / n_test)


def _checks(
    phase: QuantumPhase, partner: BobSifted, names: tuple[str, ...], rules: ChannelRules
) -> tuple[str, ...]:
    """What Alice and Bob notice."""
    found = []
    counts = phase.counts
    if counts.n_test and _rate(phase.alice.test_bits, partner.test_bits) > _tolerance(phase, rules):
        found.append("test-errors")
    if "decoy-states" in names and not _gains_as_expected(phase, rules):
        found.append("decoy-gains")
    if counts.alarm:
        found.append("detector-monitor")
    if "authentication" in names and phase.channel.alice != phase.channel.bob:
        found.append("authentication")
    return tuple(found)


def _gains_as_expected(phase: QuantumPhase, rules: ChannelRules) -> bool:
    """Whether each intensity was detected as often as the channel model says."""
    config, counts = phase.config, phase.counts
    p = config.stated_basis_probability
    for mean, key, test, sent_key, sent_test in zip(
        config.source.means, counts.key, counts.test, counts.sent_key, counts.sent_test, strict=True
    ):
        gain = coherent_gain(mean, config.channel, config.detector)
        expected = gain * (sent_key * p + sent_test * (1 - p))
        # A sum of unlike coins strays from its mean less often than a Poisson variable (Hoeffding 1956).
        low, high = stats.poisson.ppf(rules.tail, expected), stats.poisson.isf(rules.tail, expected)
        if not low <= key + test <= high:
            return False
    return True


def _leak(phase: QuantumPhase, partner: BobSifted, rules: ChannelRules) -> float:
    """Bits that error correction discloses."""
    if not phase.counts.n_key:
        return 0.0
    wrong = _rate(phase.alice.key_bits, partner.key_bits)
    return rules.f_ec * phase.counts.n_key * binary_entropy(wrong)


def _claim(
    phase: QuantumPhase, partner: BobSifted, leak_ec: float, names: tuple[str, ...], rules: ChannelRules
) -> int:
    """Bits of key by the analysis that goes with the source; without decoys, that of single photons."""
    counts, config = phase.counts, phase.config
    if not counts.n_key or not counts.n_test:
        return 0
    if "decoy-states" in names:
        wrong = phase.alice.test_intensity[phase.alice.test_bits != partner.test_bits]
        decoy = DecoySource(
            intensities=_three(config.source.means), probabilities=_three(config.source.stated_probabilities)
        )
        seen = DecoyCounts(
            key=_three(counts.key),
            test=_three(counts.test),
            test_errors=_three(np.bincount(wrong, minlength=3).tolist()),
        )
        length = lim_length(
            source=decoy, counts=seen, leak_ec=leak_ec, eps_sec=rules.eps_sec, eps_cor=rules.eps_cor
        )
        bounds = lim_bounds(decoy, seen, rules.eps_sec)
        n_single, phase_error = bounds.single, bounds.phase_error
    else:
        q_tol = _tolerance(phase, rules)
        n, k = counts.n_key, counts.n_test
        length = tomamichel_length(
            n=n, k=k, q_tol=q_tol, leak_ec=leak_ec, eps_sec=rules.eps_sec, eps_cor=rules.eps_cor
        )
        n_single, phase_error = float(n), min(0.5, q_tol + sampling_deviation(n, k, rules.eps_sec / 4))
    if "isolator" in names:
        length -= math.ceil(
            leakage_term(
                n_single=n_single,
                phase_error=phase_error,
                reflected=reflected_photons(MOST_INJECTED, config.source.isolation_db),
                single_photon_yield=photon_gain(1, config.channel, config.detector),
            )
        )
    return length


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)
