"""Models of one's own beside a shared one: each client trains both, and sends updates of the shared one alone."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base import ConfigError, finite

__all__ = ["OwnModels"]


@finite
@dataclass(frozen=True, kw_only=True)
class OwnModels:
    """Every client has a second model, which it trains on its own records and pulls towards the shared one.

    In each round a client minimises F(v) + pull / 2 |v - w|^2 over its own model v by as many steps as it makes for the shared
    one, on the same batches; w is the shared model as it was received. A step is
    ``v <- (v - rate grad F(v) + rate pull w) / (1 + rate pull)``: the gradient explicitly, the pull implicitly, so that any pull
    is stable. What is sent, and what anybody but the client sees, is that of the shared model without this option, bit for bit;
    no layer inside training acts on v, which never leaves the client.

    Attributes:
        pull: How strongly the shared model draws, lambda; 0 is training alone, and what is large leaves the shared model
            as the client last received it.

    Raises:
        ConfigError: The pull is negative.

    Source:
        After Li, Hu, Beirami, Smith: Ditto, ICML 2021, arXiv:2012.04221 (the objective), and PQFL, arXiv:2511.07471, with
        ``v <- v - rate (grad + pull (v - w))``, from its abstract. Both steps are the same to first order in the rate.
    """

    pull: float = 0.1

    def __post_init__(self) -> None:
        if self.pull < 0:
            raise ConfigError("'pull' is negative", got=self.pull, expected="0 or more")
