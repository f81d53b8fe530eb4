"""The quantum natural gradient as an option of local training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from qflsec.base import ConfigError, finite

__all__ = ["NaturalGradient"]

_WORDS = {
    "metric": ("full", "block-diagonal", "diagonal"),
    "of": ("batch", "record"),
    "solved_by": ("client", "server"),
}


@finite
@dataclass(frozen=True, kw_only=True)
class NaturalGradient:
    """Clients step along (g + damping I)^-1 grad in place of the gradient, with g the Fubini-Study metric.

    The metric is that of the pure states of the client's own records under its current model. By default each client
    solves at home and sends nothing else. What protects single records clips what comes out, which can be up to
    1 / damping times the gradient.

    Where the server solves, clients send a plain step and the entries of their metric behind it; the server averages
    both, weighted by records, and preconditions the mean step by the mean metric. The metric is a second release of the
    same records, and tells who they are.

    Attributes:
        metric: ``"full"``; ``"block-diagonal"``: of gates on different wires that act side by side; ``"diagonal"``.
        damping: What is added to the diagonal, lambda.
        of: ``"batch"``: one metric, the mean over the records of the step; ``"record"``: each record's gradient by the
            metric of its own state, so that it depends on that record alone.
        solved_by: ``"client"``; ``"server"``: clients upload their metrics.
        bounded: Whether the server keeps every uploaded metric to what the circuit can have, before it averages: no negative
            eigenvalue, and no diagonal entry above (sum of abs(scale) / 2)^2 over the gates of a weight.

    Raises:
        ConfigError: A value is out of range.

    Source:
        Stokes, Izaac, Killoran, Carleo: Quantum natural gradient, Quantum 4, 269, 2020, arXiv:1909.02108 (the metric, its
        blocks); Qi, Zhang, Tejedor, ICASSP 2023, arXiv:2303.08116 (the idea of clients that send natural gradients). The
        mean over records and the damping are as stated here.
    """

    metric: Literal["full", "block-diagonal", "diagonal"] = "block-diagonal"
    damping: float = 0.01
    of: Literal["batch", "record"] = "batch"
    solved_by: Literal["client", "server"] = "client"
    bounded: bool = False

    def __post_init__(self) -> None:
        for name, known in _WORDS.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"unknown {name!r} of a natural gradient",
                    got=repr(value),
                    expected=" or ".join(map(repr, known)),
                )
        if self.solved_by == "server" and self.of == "record":
            raise ConfigError(
                "a server gets the mean of a client's metrics, and not one of each record",
                got="solved_by='server', of='record'",
                fix="leave out one of them",
            )
        if self.bounded and self.solved_by != "server":
            raise ConfigError(
                "a server bounds metrics that are uploaded",
                got=f"bounded={self.bounded}, solved_by={self.solved_by!r}",
                fix="leave out 'bounded', or set solved_by = 'server'",
            )
        if not self.damping > 0:
            raise ConfigError(
                "'damping' must be positive: metrics of more weights than a state has directions are singular",
                got=self.damping,
                fix="try 0.01",
            )

    def to_config(self) -> dict[str, Any]:
        """Every parameter, JSON-able; later options are left out where they change nothing."""
        config = asdict(self)
        if not self.bounded:
            del config["bounded"]
        if self.solved_by == "client":
            del config["solved_by"]
        return config
