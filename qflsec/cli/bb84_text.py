"""Runs of BB84 as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qflsec.lab.worlds.channel import Judgement
    from qflsec.protocols.bb84.run import BB84Result

__all__ = ["chain_lines"]

_WIDTH = 26


def chain_lines(result: BB84Result, judgement: Judgement, attack: str | None) -> Iterator[str]:
    """One run, step by step."""
    yield from _agreed(result)
    yield from _happened(result)
    yield from _ended(result)
    if attack is not None:
        yield _row("attack", attack)
        yield _row("what only we can see", judgement.sentence)
    if result.key.seeded:
        yield "The secrets came from a seed: this key protects nothing."


def _agreed(result: BB84Result) -> Iterator[str]:
    config, plan = result.config, result.plan
    line = config.expected
    yield (
        f"BB84 with the source {config.source} over {line.distance_km:g} km, {config.pulses:,} pulses "
        f"(the quantum channel is simulated, seed {result.seed})"
    )
    yield "agreed before the first pulse:"
    yield _row("basis bias", f"X with probability {plan.basis_probability:.4f}")
    if plan.source.means:
        pairs = zip(plan.source.means, plan.source.stated_probabilities, strict=True)
        yield _row("intensities", ", ".join(f"{mean:.3g} (p = {p:.3f})" for mean, p in pairs))
    made = plan.config
    yield _row("raw key, test", f"{made.n:,} bits in X, {made.k:,} bits in Z")
    yield _row("tolerated error rate", f"{100 * made.q_tol:.2f} %, expected {100 * made.expected_qber:.2f} %")
    yield _row("leak budget", f"{made.leak_budget:,} bits ({made.accounting})")
    proof = "" if config.proved else "; NO PROOF COVERS IT"
    yield _row("length", f"{made.length:,} bits before authentication is paid for{proof}")


def _happened(result: BB84Result) -> Iterator[str]:
    counts, key = result.counts, result.key
    yield "what happened:"
    if (line := result.config.line) is not None:
        yield _row("the line as it is", f"{line.distance_km:g} km, misalignment {line.misalignment:g}")
    yield _row("detected", f"{counts.n_detected:,} pulses")
    yield _row(
        "sifted", f"{result.sifted_bits:,} bits: {counts.n_key:,} in X (key), {counts.n_test:,} in Z (test)"
    )
    if result.qber is not None:
        test = result.qber
        yield _row(
            "QBER",
            f"{100 * test.rate:.3f} % [{100 * test.low:.3f}, {100 * test.high:.3f}] "
            f"({test.errors:,} of {test.n:,} test bits, 95 %)",
        )
    count = key.reconciliation
    if count is not None:
        f_ec = "" if key.f_ec is None else f"; f_EC = {key.f_ec:.3f} by Alice's alone"
        yield _row(
            "error correction",
            f"leak {key.leak_ec:,} bits in {count.rounds} rounds, {count.corrected:,} errors{f_ec}",
        )
    yield _row("public discussion", f"{key.messages:,} messages, {key.public_bytes:,} bytes")


def _ended(result: BB84Result) -> Iterator[str]:
    key = result.key
    if result.abort_reason is not None:
        yield f"ABORTED: {result.abort_reason}. No key was released."
    else:
        yield _row(
            "KEY", f"{key.key_length:,} bits at both ends, {result.rate:.3g} bits per pulse; equal: {_equal(result)}"
        )  # fmt: skip
        yield _row(
            "authentication",
            f"{key.authentication_bits:,} bits spent, {key.refilled_bits:,} put back; spoiled runs survived: "
            f"{key.spoiled_rounds}; net gain {key.net_gain:,} bits",
        )
    yield _row(
        "epsilons",
        f"secrecy {key.config.eps_sec:.3g}, correctness {key.config.eps_cor:.3g}, "
        f"authentication {key.eps_auth:.3g}; together {key.eps_total:.3g}",
    )
    yield _row("processor time", f"{result.cpu_seconds:.2f} s")


def _equal(result: BB84Result) -> str:
    alice, bob = result.alice_key, result.bob_key
    return "yes" if alice is not None and bob is not None and bool((alice == bob).all()) else "no"


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"
