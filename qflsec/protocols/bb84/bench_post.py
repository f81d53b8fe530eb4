"""Speed and cost of post-processing, in processor time of one process on one core."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import OsSecrets, SeededSecrets
from qflsec.protocols.bb84.authentication import BLOCK_BYTES, PolynomialHash
from qflsec.protocols.bb84.cascade import CascadeConfig, reconcile
from qflsec.protocols.bb84.cascade_variants import SCHEDULES
from qflsec.protocols.bb84.estimation import random_subset
from qflsec.protocols.bb84.privacy_amplification import draw_seed, toeplitz_hash, toeplitz_seed_bits

__all__ = ["CascadeTiming", "ToeplitzTiming", "bench_post", "time_cascade", "time_hash", "time_toeplitz"]

Bits = npt.NDArray[np.uint8]
_DIRECT_BITS = 4000
PUBLISHED_F_EC = {0.01: 1.139, 0.02: 1.156, 0.03: 1.171, 0.05: 1.183}
"""Original schedule at n = 1e5: stored data of cascade-python, commit c6706ab (2025)."""


@dataclass(frozen=True, kw_only=True)
class CascadeTiming:
    """Cascade between two parties, both in this process.

    Attributes:
        schedule: The schedule.
        qber: Error rate; every key has exactly so many errors.
        bits: Length of the keys.
        runs: Runs averaged.
        f_ec: By Alice's parities alone, as the literature counts.
        f_ec_both_parties: By every parity that either party announced.
        published_f_ec: What cascade-python has for it, where stored.
        rounds: Exchanges of messages.
        mbit_per_s: Key bits per second of processor time, both parties together; the median run.
        failures: Runs that left an error.
    """

    schedule: str
    qber: float
    bits: int
    runs: int
    f_ec: float
    f_ec_both_parties: float
    published_f_ec: float | None
    rounds: float
    mbit_per_s: float
    failures: int


@dataclass(frozen=True, kw_only=True)
class ToeplitzTiming:
    """Toeplitz hashing of ``bits`` bits to half as many.

    Attributes:
        bits: Length of the key.
        seconds: Processor time.
        mbit_per_s: Key bits per second.
        growth: Time per n log2 n, over that of the shortest key measured: 1 throughout is n log n.
    """

    bits: int
    seconds: float
    mbit_per_s: float
    growth: float


def _noisy_pair(n: int, errors: int, secrets: SeededSecrets) -> tuple[Bits, Bits]:
    alice = draw_seed(secrets, n)
    return alice, alice ^ random_subset(n, errors, secrets).astype(np.uint8)


def time_cascade(schedule: str, qber: float, *, n: int = 100_000, runs: int = 20) -> CascadeTiming:
    """Run one schedule at one error rate."""
    config = CascadeConfig(schedule=schedule, qber=qber)
    costs, seconds, failures = [], [], 0
    for run in range(runs):
        secrets = SeededSecrets(run, "bench", schedule)
        alice, bob = _noisy_pair(n, round(n * qber), secrets)
        start = time.process_time()
        corrected, count = reconcile(alice, bob, config, secrets)
        seconds.append(time.process_time() - start)
        costs.append(count)
        failures += int(not np.array_equal(corrected, alice))
    f_ec = statistics.mean(count.efficiency(n, qber) for count in costs)
    both = statistics.mean((count.alice_bits + count.bob_bits) / count.alice_bits for count in costs)
    return CascadeTiming(
        schedule=schedule,
        qber=qber,
        bits=n,
        runs=runs,
        f_ec=f_ec,
        f_ec_both_parties=f_ec * both,
        published_f_ec=PUBLISHED_F_EC.get(qber) if (schedule, n) == ("original", 100_000) else None,
        rounds=statistics.mean(count.rounds for count in costs),
        mbit_per_s=n / statistics.median(seconds) / 1e6,
        failures=failures,
    )


def time_toeplitz(sizes: tuple[int, ...] = (10**5, 10**6, 10**7)) -> tuple[ToeplitzTiming, ...]:
    """Hash keys of growing length; each size takes the best of two runs."""
    found: list[tuple[int, float]] = []
    for n in sizes:
        secrets = OsSecrets()
        bits, seed = draw_seed(secrets, n), draw_seed(secrets, toeplitz_seed_bits(n, n // 2))
        taken = []
        for _ in range(2):
            start = time.process_time()
            toeplitz_hash(bits, seed, n // 2)
            taken.append(time.process_time() - start)
        found.append((n, min(taken)))
    unit = found[0][1] / (found[0][0] * math.log2(found[0][0]))
    return tuple(
        ToeplitzTiming(
            bits=n, seconds=taken, mbit_per_s=n / taken / 1e6, growth=taken / (n * math.log2(n)) / unit
        )
        for n, taken in found
    )


def _direct_rate(n: int) -> float:
    """Bits per second of the same product with the matrix written out."""
    secrets = OsSecrets()
    bits, seed = draw_seed(secrets, n), draw_seed(secrets, toeplitz_seed_bits(n, n // 2))
    start = time.process_time()
    matrix = seed[np.arange(n // 2)[:, None] - np.arange(n)[None, :] + n - 1]
    np.bitwise_and(matrix, bits).sum(axis=1, dtype=np.int64)
    return n / (time.process_time() - start)


def time_hash(n_bytes: int = 10**7) -> float:
    """Megabytes of transcript hashed per second for a tag."""
    hashed = PolynomialHash(OsSecrets().draw(BLOCK_BYTES))
    message = bytes(n_bytes)
    start = time.process_time()
    hashed(message)
    return n_bytes / (time.process_time() - start) / 1e6


def bench_post(*, runs: int = 20, n: int = 100_000, largest: int = 10**7) -> dict[str, object]:
    """All of it, ready for JSON.

    Args:
        runs: Runs of Cascade for each schedule and error rate.
        n: Length of the keys for Cascade.
        largest: Longest key for hashing.
    """
    cascade = [time_cascade(name, qber, n=n, runs=runs) for name in SCHEDULES for qber in PUBLISHED_F_EC]
    toeplitz = time_toeplitz(tuple(size for size in (10**5, 10**6, 10**7) if size <= largest))
    return {
        "cascade": [asdict(each) for each in cascade],
        "toeplitz": [asdict(each) for each in toeplitz],
        "toeplitz_over_direct_product_of_4000_bits": 1e6
        * toeplitz[-1].mbit_per_s
        / _direct_rate(_DIRECT_BITS),
        "transcript_hash_mbyte_per_s": time_hash(),
    }
