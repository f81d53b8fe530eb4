"""All ways of a round give the mean of the same updates, and the bench says what each of them took."""

from __future__ import annotations

from qflsec.flower.bench import bench_flower


def test_every_way_gives_the_mean_and_is_measured() -> None:
    costs = {cost.name: cost for cost in bench_flower(n_clients=4, n_params=40, rounds=1)}
    assert list(costs) == [
        "flower fedavg",
        "qflsec, no layer",
        "qflsec masked",
        "qflsec secagg",
        "flower secagg+",
    ]
    for cost in costs.values():
        assert cost.error < (1e-3 if cost.name == "flower secagg+" else 1e-5)
        assert cost.up_bytes > 4 * 40
        assert cost.client_ms > 0
        assert cost.server_ms > 0
    # Flower's own sends more for the same sum
    assert costs["qflsec secagg"].up_bytes < costs["flower secagg+"].up_bytes
