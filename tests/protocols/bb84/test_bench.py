from __future__ import annotations

from qflsec.protocols.bb84.bench import WITHOUT_LOSS, circuit_rate, pulse_rate


def test_five_million_pulses_a_second_and_5000_circuits_for_each() -> None:
    """Processor time in one process, secrets from the operating system; best of up to three for a busy machine."""
    circuits = circuit_rate("qiskit", n=150)
    for _ in range(3):
        rate = pulse_rate(WITHOUT_LOSS)
        if rate >= 5e6 and rate >= 5000 * circuits:
            break
    assert rate >= 5e6
    assert rate >= 5000 * circuits
