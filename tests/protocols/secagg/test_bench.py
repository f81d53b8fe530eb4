"""The benchmark: sizes are exact and held to their targets; times are reported, and compared where that is safe."""

from __future__ import annotations

import pytest

from qflsec.protocols.secagg.bench import PROTOCOLS, bench_secagg, expansion_ms, measured, round_cost, targets


def test_rows_for_every_protocol() -> None:
    rows = bench_secagg(sizes=(36,), n_clients=9, repeats=1)
    assert [row["protocol"] for row in rows] == list(measured(36))
    assert set(PROTOCOLS) < set(measured(36))
    assert "ghz" not in measured(100_000), "it takes minutes there"
    assert {row["parameters"] for row in rows} == {36}
    by_name = {str(row["protocol"]): row for row in rows}
    assert by_name["plain"]["up_bytes"] == by_name["masked"]["up_bytes"] == 4 * 37
    assert by_name["plain"]["up_bytes_to_plain"] == 1.0
    assert all(float(row["server_ms"]) > 0 for row in rows)


def test_bytes_of_secagg_at_100000_parameters() -> None:
    """The target: at most 1.1 times float32, for what a client sends and for what it receives."""
    cost = round_cost("secagg", n_params=100_000, repeats=1)
    assert cost.up_bytes <= 1.1 * 400_004
    assert cost.down_bytes <= 1.1 * 400_000
    assert cost.up_bytes > 400_004


def test_bfv_takes_less_than_ckks_at_the_quantum_row() -> None:
    """At most 0.6 of the bytes (measured 0.51); the time to encrypt (0.49) is held to the bench's 0.75 with room for a busy machine."""
    bfv, ckks = (round_cost(name, n_params=20_000, n_clients=3, repeats=7) for name in ("he-bfv", "he-ckks"))
    assert bfv.up_bytes <= 0.6 * ckks.up_bytes
    assert bfv.seal_ms <= 1.1 * ckks.seal_ms


def test_targets_are_judged_from_rows() -> None:
    """Values just above and just below each target."""

    def rows(factor: float) -> list[dict[str, float | str]]:
        common: dict[str, float | str] = {"parameters": 100_000}
        return [
            {
                **common,
                "protocol": "secagg",
                "up_bytes": factor * 440_004.4,
                "client_time_to_expansion": factor * 5,
            },
            {**common, "protocol": "he-bfv", "up_bytes": factor * 60, "client_seal_ms": factor * 75},
            {**common, "protocol": "he-ckks", "up_bytes": 100.0, "client_seal_ms": 100.0},
        ]

    assert [target["met"] for target in targets(rows(0.999))] == [True] * 4
    assert [target["met"] for target in targets(rows(1.001))] == [False] * 4
    assert targets([{"parameters": 36, "protocol": "secagg"}]) == []


@pytest.mark.slow
def test_time_of_secagg_at_100000_parameters() -> None:
    """Measured 5.4 times the expansion of the masks where ChaCha20 makes 4.4 GB/s: eleven checks of signatures and
    eighteen key agreements are 2 of 4.9 ms. The target of 5 is not reached there at this size; this guards what is.
    """
    cost = round_cost("secagg", n_params=100_000, repeats=10)
    assert cost.client_ms <= 8 * expansion_ms(n_params=100_000, repeats=10)
