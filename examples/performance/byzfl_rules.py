"""ByzFL's aggregators: results compared first, then the cost of one aggregation by its two paths, torch and NumPy."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

import torch

from qflsec.circuits.bench import least_costs, one_thread
from qflsec.defenses import robust


def loaded() -> None:
    """Stand in for the package's face, which would load torchvision and plots for its training loops."""
    spec = find_spec("byzfl")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("byzfl is not installed: pip install --no-deps byzfl==0.0.11")
    face = ModuleType("byzfl")
    face.__path__ = list(spec.submodule_search_locations)
    sys.modules["byzfl"] = face


def measure(n: int, d: int) -> None:
    """Each rule against both paths, a fifth of the rows declared corrupted."""
    from byzfl.aggregators import aggregators, preaggregators

    f, updates = n // 5, torch.randn(n, d, generator=torch.Generator().manual_seed(n + d))
    array = updates.numpy().copy()
    rules = {
        "trimmed mean": (lambda x: robust.trimmed_mean(x, f=f), aggregators.TrMean(f), 1e-5),
        "median": (robust.coordinate_median, aggregators.Median(), 1e-5),
        "geometric median": (robust.geometric_median, aggregators.GeometricMedian(nu=1e-6, T=50), 1e-3),
        "krum": (lambda x: robust.krum(x, f=f, neighbours=n - f - 1), aggregators.Krum(f), 1e-5),
        "nnm": (lambda x: robust.nearest_neighbour_mixing(x, f=f), preaggregators.NNM(f), 1e-5),
    }
    for name, (ours, theirs, near) in rules.items():
        apart = float((ours(updates) - theirs(updates)).abs().max())
        if apart > near:
            sys.exit(f"{name}: results differ by {apart}")
        costs = least_costs(
            {
                "ours": lambda ours=ours: ours(updates),
                "torch": lambda theirs=theirs: theirs(updates),
                "numpy": lambda theirs=theirs: theirs(array),
            },
            15,
        )
        ratios = ", ".join(f"{path} {costs[path] / costs['ours']:.1f}" for path in ("torch", "numpy"))
        print(f"{name}, n = {n}, d = {d}: {costs['ours'] * 1e6:.0f} µs; times as long take ByzFL's {ratios}")


loaded()
with one_thread():
    measure(*(int(part) for part in (sys.argv[1:3] or ("100", "1000"))))
